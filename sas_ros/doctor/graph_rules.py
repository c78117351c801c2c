"""Rules about a perception node that is there: its state, its input, its clock, its listeners."""

from __future__ import annotations

from collections.abc import Iterator

from sas_ros.doctor.facts import BEST_EFFORT, RELIABLE, Facts, GraphFacts, NodeFacts
from sas_ros.doctor.rules import Finding, GraphRule, Severity, error, info, warning

CLOUD = "sensor_msgs/msg/PointCloud2"
_NAMED = 4
"""Topics that a sentence names at most."""


def _two_nodes(facts: Facts, graph: GraphFacts, node: NodeFacts) -> Iterator[Finding]:
    if node.count > 1:
        yield error(
            "two-nodes",
            f"{node.count} nodes are called {node.name}: services and parameters reach one of "
            "them by chance.",
            "End all but one (`ros2 node list`), or give each robot a namespace of its own.",
        )


def _lifecycle(facts: Facts, graph: GraphFacts, node: NodeFacts) -> Iterator[Finding]:
    if not node.state:
        yield error(
            "no-answer",
            f"{node.name} is on the graph and does not answer.",
            "It may be loading its student: look again in a minute. Otherwise see its log, and "
            "start it anew.",
        )
    elif node.state != "active":
        step = "configure" if node.state == "unconfigured" else "activate"
        yield error(
            "not-active",
            f"{node.name} is {node.state}, not active, so it takes no clouds.",
            f"`ros2 lifecycle set {node.name} {step}`, or start it with autostart:=true; when the "
            "transition fails, its log says why.",
        )


def _encoder(facts: Facts, graph: GraphFacts, node: NodeFacts) -> Iterator[Finding]:
    own, chosen = facts.around.student_encoder, node.text("text_encoder")
    if own and chosen not in ("", "auto", "none", own):
        yield error(
            "student-encoder",
            f"The parameter text_encoder is {chosen!r} and the student was trained with {own!r}.",
            "Set text_encoder to auto; another encoder's words mean nothing to this student.",
        )


def _publishers(facts: Facts, graph: GraphFacts, node: NodeFacts) -> Iterator[Finding]:
    if any(publisher.message_type == CLOUD for publisher in graph.publishers):
        return
    types = sorted({publisher.message_type for publisher in graph.publishers})
    elsewhere = ", ".join(graph.cloud_topics[:_NAMED])
    remap = (
        f"Clouds are published on {elsewhere}: start the node with `--ros-args -r points:="
        f"{graph.cloud_topics[0]}`, or launch it with input_topic:={graph.cloud_topics[0]}."
        if graph.cloud_topics
        else ""
    )
    if types:
        yield error(
            "wrong-type",
            f"{node.input_topic} carries {', '.join(types)}, not {CLOUD}.",
            remap or "Let the node subscribe to a topic of point clouds.",
        )
    else:
        yield error(
            "no-publisher",
            f"Nobody publishes {node.input_topic}.",
            remap
            or "Start the sensor's driver. Where it runs, ROS_DOMAIN_ID (here "
            f"{facts.around.domain or '0'}) and the discovery range (here "
            f"{facts.around.discovery or 'the default'}) must be the same as here.",
        )


def _reliability(facts: Facts, graph: GraphFacts, node: NodeFacts) -> Iterator[Finding]:
    deaf = [
        publisher.node
        for publisher in graph.publishers
        if publisher.message_type == CLOUD and publisher.reliability == BEST_EFFORT
    ]
    if deaf and node.text("points_reliability") == RELIABLE:
        yield error(
            "qos",
            f"{', '.join(deaf)} publishes {node.input_topic} best effort, and the node subscribes "
            "reliably: the two do not match, and no cloud will ever pass.",
            f"`ros2 param set {node.name} points_reliability auto`.",
        )


def _silence(facts: Facts, graph: GraphFacts, node: NodeFacts) -> Iterator[Finding]:
    clouds = [publisher for publisher in graph.publishers if publisher.message_type == CLOUD]
    if not clouds or graph.sample is not None or node.gained.get("received", 0):
        return
    names = ", ".join(sorted({publisher.node for publisher in clouds}))
    if any(publisher.reliability == BEST_EFFORT for publisher in clouds):
        yield error(
            "large-cloud",
            f"{names} publishes {node.input_topic} best effort, and nothing arrived within "
            f"{graph.seconds:g} s: either it sends nothing, or its clouds are larger than 0.5 MB "
            "(32,000 points of 16 bytes), which the middleware's defaults lose without a word.",
            "Where the driver is started, set FASTDDS_DEFAULT_PROFILES_FILE (Humble, Jazzy: "
            "FASTRTPS_DEFAULT_PROFILES_FILE) to sas_ros's config/fastdds_large_clouds.xml; only "
            "the publishing process can change this. Or let the driver publish reliably.",
        )
    else:
        yield error(
            "silent-publisher",
            f"{names} offers {node.input_topic} and sent nothing within {graph.seconds:g} s.",
            "Look at the driver: is the sensor streaming, is a player paused?",
        )


def _fields(facts: Facts, graph: GraphFacts, node: NodeFacts) -> Iterator[Finding]:
    sample = graph.sample
    if sample is None:
        return
    if sample.problem:
        yield error(
            "fields",
            sample.problem,
            "Let the driver publish x, y and z as float32 (metres); other fields are free.",
        )
    elif not sample.finite_points:
        yield error(
            "empty",
            f"The clouds on {node.input_topic} have {sample.points} points, none of them finite.",
            "Look at the sensor: is it covered, out of range, or without depth?",
        )
    elif not sample.frame:
        yield warning(
            "no-frame",
            "The clouds' frame_id is empty, so nobody can say where they are.",
            "Set the frame in the driver.",
        )
    missing = set(facts.around.student_needs) - {"points"}
    if not sample.problem and sample.colored:
        missing -= {"colours"}
    if missing and not sample.problem:
        yield error(
            "student-needs",
            f"The student needs {', '.join(sorted(missing))}, which the clouds do not hold.",
            "Use a student that needs only points, or a topic with coloured clouds.",
        )


def _stamps(facts: Facts, graph: GraphFacts, node: NodeFacts) -> Iterator[Finding]:
    simulated = node.parameters.get("use_sim_time") is True
    if simulated and not graph.clock_publishers:
        yield error(
            "no-clock",
            "The node has use_sim_time, and nobody publishes /clock: its time stands still.",
            "Play the recording with its clock (`sas replay BAG --clock`, `ros2 bag play --clock`),"
            " or set use_sim_time to false.",
        )
        return
    sample = graph.sample
    if sample is None or sample.problem:
        return
    # As it was when the cloud came: a recording's clock has moved on since.
    now = sample.clock_ns if simulated else sample.received_ns
    if now is None:
        return
    age = (now - sample.stamp_ns) * 1e-9
    tolerance, limit = node.number("stamp_tolerance", 10.0), node.number("max_age", 0.0)
    if abs(age) <= max(tolerance, limit or 0.0) and not 0 < limit < age:
        return
    recorded = (
        "A recording is being played with its clock: set use_sim_time to true on every node."
        if graph.clock_publishers and not simulated
        else "For a recording use `sas replay --stamps now`, or its clock and use_sim_time; for a "
        "live sensor synchronise the clocks (chrony, PTP)."
    )
    if age < 0:
        yield warning(
            "future-stamps", f"Clouds are stamped {-age:.1f} s in the node's future.", recorded
        )
    elif 0 < limit < age:
        yield error(
            "stale-stamps",
            f"Clouds are stamped {age:.1f} s ago and max_age is {limit:g} s: all are dropped.",
            f"{recorded} Or raise max_age.",
        )
    else:
        yield warning(
            "stale-stamps",
            f"Clouds are stamped {age:.1f} s ago; TF and fusion with other data will fail.",
            recorded,
        )


def _transforms(facts: Facts, graph: GraphFacts, node: NodeFacts) -> Iterator[Finding]:
    frame = node.text("inference_frame")
    if not frame or node.text("up"):
        return
    if not facts.around.tf2:
        yield warning(
            "tf2-missing",
            f"inference_frame is {frame!r} and tf2_ros is not installed, so it is ignored and up "
            "is worked out from the clouds.",
            "Install tf2_ros (it comes with a ROS 2 installation), or set the parameter up.",
        )
    elif not graph.tf_publishers:
        yield error(
            "tf-missing",
            f"inference_frame is {frame!r} and nobody publishes /tf or /tf_static.",
            "Start robot_state_publisher or the static transforms, or set the parameter up.",
        )
    elif node.gained.get("dropped_up", 0):
        where = repr(graph.sample.frame) if graph.sample is not None else "the clouds' frame"
        yield error(
            "tf-transform",
            f"TF has no transform between {where} and {frame!r} at the clouds' stamps.",
            f"`ros2 run tf2_ros tf2_echo {frame} FRAME` shows what is missing; a larger tf_timeout "
            "helps where transforms come late.",
        )


_DROPPED = {
    "layout": ("cannot be read", "The node's log names the fields; see docs/ros_api.md."),
    "empty": ("hold no finite point", "Look at the sensor."),
    "stale": ("are older than max_age", "Synchronise the clocks, or raise max_age."),
    "memory": ("do not fit the device", "Crop or thin the clouds, or use another device."),
    "error": ("met a defect", "The node's log has a traceback: please report it."),
}


def _dropped(facts: Facts, graph: GraphFacts, node: NodeFacts) -> Iterator[Finding]:
    for reason, (what, remedy) in _DROPPED.items():
        count = node.gained.get(f"dropped_{reason}", 0)
        if not count:
            continue
        processed = node.gained.get("processed", 0)
        severity = Severity.WARN if processed else Severity.ERROR
        sentence = f"{count} clouds were dropped while I looked, because they {what}"
        sentence += f"; {processed} were processed." if processed else "; none was processed."
        yield Finding(f"dropped-{reason}", severity, sentence, remedy)


def _listeners(facts: Facts, graph: GraphFacts, node: NodeFacts) -> Iterator[Finding]:
    for topic, endpoints in sorted(graph.listeners.items()):
        deaf = sorted({endpoint.node for endpoint in endpoints if endpoint.latched})
        if deaf:
            yield error(
                "listener-qos",
                f"{', '.join(deaf)} asks for transient local durability on {topic}, which is "
                "volatile: the two do not match.",
                f"Set the durability of that subscription to volatile (in RViz: the display of "
                f"{topic}, Topic, Durability Policy).",
            )
    if node.state == "active" and not any(graph.listeners.values()):
        yield info(
            "no-listener",
            "Nobody subscribes to labeled_points or another output; they are computed only while "
            "somebody does. Queries are answered all the same.",
            "Add a display in RViz, or `sas save -o labelled.ply`.",
        )


GRAPH_RULES: tuple[GraphRule, ...] = (
    _two_nodes,
    _lifecycle,
    _encoder,
    _publishers,
    _reliability,
    _silence,
    _fields,
    _stamps,
    _transforms,
    _dropped,
    _listeners,
)
"""In the order of cause and effect."""
