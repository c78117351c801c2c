"""The doctor's rules: facts in, findings out, without a graph; and what it says."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from students import untrained_student

from sas_ros.cli import main
from sas_ros.doctor import Facts, GraphFacts, Severity, Surroundings, diagnose
from sas_ros.doctor.facts import BEST_EFFORT, OUTPUTS, Endpoint, NodeFacts, Sample
from sas_ros.doctor.report import as_json, as_text, healthy
from sas_ros.doctor.rules import Finding
from sas_ros.doctor.surroundings import REQUIRED_FIELDS, interfaces_problem, look_around

CLOUD = "sensor_msgs/msg/PointCloud2"
SECOND = 10**9
NOW = 1_700_000_000 * SECOND
ROOT = Path(__file__).resolve().parents[2]

DRIVER = Endpoint("/camera/driver", CLOUD)
VIEWER = Endpoint("/rviz", CLOUD)
GOOD = Sample("", 1000, 900, 16_000, True, "camera", NOW - SECOND // 10, NOW)
NODE = NodeFacts(
    "/sas/perception",
    state="active",
    parameters={"student": "indoor-tiny", "points_reliability": "auto", "use_sim_time": False},
    input_topic="/sas/points",
    counts={"received": 20, "processed": 18},
    gained={"received": 4, "processed": 4},
)
GRAPH = GraphFacts(
    "/sas",
    3.0,
    node=NODE,
    publishers=(DRIVER,),
    sample=GOOD,
    listeners={**dict.fromkeys(OUTPUTS, ()), "labeled_points": (VIEWER,)},
)
HEALTHY = Facts(Surroundings(), GRAPH)


def around(**changes: Any) -> Facts:
    return replace(HEALTHY, around=replace(HEALTHY.around, **changes))


def graph(**changes: Any) -> Facts:
    return replace(HEALTHY, graph=replace(GRAPH, **changes))


def node(**changes: Any) -> Facts:
    return graph(node=replace(NODE, **changes))


def parameters(facts: Facts = HEALTHY, **values: Any) -> Facts:
    assert facts.graph is not None and facts.graph.node is not None
    changed = replace(facts.graph.node, parameters={**facts.graph.node.parameters, **values})
    return replace(facts, graph=replace(facts.graph, node=changed))


def sample(**changes: Any) -> Facts:
    return graph(sample=replace(GOOD, **changes))


def silent(*publishers: Endpoint) -> Facts:
    facts = graph(publishers=publishers, sample=None)
    assert facts.graph is not None
    return replace(facts, graph=replace(facts.graph, node=replace(NODE, gained={})))


def test_a_healthy_graph_has_no_findings() -> None:
    assert diagnose(HEALTHY) == []
    assert "Nothing was found" in as_text(HEALTHY, [])


CASES: list[tuple[Callable[[], Facts], str, Severity, str]] = [
    (lambda: around(ros_problem="No module named 'rclpy'"), "ros-missing", Severity.ERROR, "rclpy"),
    (lambda: around(interfaces_problem="x."), "interfaces", Severity.ERROR, "make setup"),
    (lambda: graph(node=None), "no-node", Severity.ERROR, "sas run"),
    (
        lambda: graph(node=None, nodes_elsewhere=("/robot2/sas/perception",)),
        "no-node",
        Severity.ERROR,
        "--namespace robot2/sas",
    ),
    (
        lambda: Facts(Surroundings(student_problem="There is none."), None),
        "student",
        Severity.ERROR,
        "There is none",
    ),
    (lambda: Facts(Surroundings(cuda=False), None), "device", Severity.ERROR, "nvidia-smi"),
    # The node has what it needs, perhaps on another machine.
    (lambda: around(student_problem="There is none."), "student", Severity.INFO, "There is none"),
    (lambda: around(cuda=False), "device", Severity.INFO, "another machine"),
    (lambda: around(shared_memory_free=64 * 2**20), "shared-memory", Severity.WARN, "64 MB"),
    (lambda: node(count=2), "two-nodes", Severity.ERROR, "2 nodes are called /sas/perception"),
    (lambda: node(state=""), "no-answer", Severity.ERROR, "does not answer"),
    (lambda: node(state="inactive"), "not-active", Severity.ERROR, "set /sas/perception activate"),
    (lambda: node(state="unconfigured"), "not-active", Severity.ERROR, "configure"),
    (
        lambda: parameters(around(student_encoder="minilm-l6-v2"), text_encoder="open_clip:ViT"),
        "student-encoder",
        Severity.ERROR,
        "minilm-l6-v2",
    ),
    (lambda: silent(), "no-publisher", Severity.ERROR, "Nobody publishes /sas/points"),
    (
        lambda: graph(publishers=(), sample=None, cloud_topics=("/camera/points",)),
        "no-publisher",
        Severity.ERROR,
        "points:=/camera/points",
    ),
    (
        lambda: silent(Endpoint("/talker", "std_msgs/msg/String")),
        "wrong-type",
        Severity.ERROR,
        "carries std_msgs/msg/String",
    ),
    (
        lambda: parameters(
            graph(publishers=(replace(DRIVER, reliability=BEST_EFFORT),)),
            points_reliability="reliable",
        ),
        "qos",
        Severity.ERROR,
        "points_reliability auto",
    ),
    (
        lambda: silent(replace(DRIVER, reliability=BEST_EFFORT)),
        "large-cloud",
        Severity.ERROR,
        "FASTDDS_DEFAULT_PROFILES_FILE",
    ),
    (lambda: silent(DRIVER), "silent-publisher", Severity.ERROR, "paused"),
    (lambda: sample(problem="It has no field x."), "fields", Severity.ERROR, "no field x"),
    (lambda: sample(finite_points=0), "empty", Severity.ERROR, "none of them finite"),
    (lambda: sample(frame=""), "no-frame", Severity.WARN, "frame_id"),
    (
        lambda: replace(
            sample(colored=False), around=Surroundings(student_needs=("points", "colours"))
        ),
        "student-needs",
        Severity.ERROR,
        "needs colours",
    ),
    (lambda: parameters(use_sim_time=True), "no-clock", Severity.ERROR, "--clock"),
    (lambda: sample(stamp_ns=NOW - 60 * SECOND), "stale-stamps", Severity.WARN, "60.0 s ago"),
    (lambda: sample(stamp_ns=NOW + 60 * SECOND), "future-stamps", Severity.WARN, "future"),
    (
        lambda: parameters(sample(stamp_ns=NOW - 3 * SECOND), max_age=2.0),
        "stale-stamps",
        Severity.ERROR,
        "max_age is 2 s",
    ),
    (
        lambda: graph(sample=replace(GOOD, stamp_ns=SECOND), clock_publishers=1),
        "stale-stamps",
        Severity.WARN,
        "use_sim_time to true",
    ),
    (
        lambda: parameters(
            graph(clock_publishers=1, sample=replace(GOOD, clock_ns=NOW - 3600 * SECOND)),
            use_sim_time=True,
        ),
        "future-stamps",
        Severity.WARN,
        "3599.9 s",
    ),
    (
        lambda: parameters(around(tf2=False), inference_frame="odom"),
        "tf2-missing",
        Severity.WARN,
        "up",
    ),
    (lambda: parameters(inference_frame="odom"), "tf-missing", Severity.ERROR, "/tf_static"),
    (
        lambda: parameters(
            graph(tf_publishers=1, node=replace(NODE, gained={"dropped_up": 3, "received": 3})),
            inference_frame="odom",
        ),
        "tf-transform",
        Severity.ERROR,
        "'camera' and 'odom'",
    ),
    (
        lambda: node(gained={"received": 3, "dropped_memory": 3}),
        "dropped-memory",
        Severity.ERROR,
        "none was processed",
    ),
    (
        lambda: node(gained={"received": 3, "processed": 2, "dropped_error": 1}),
        "dropped-error",
        Severity.WARN,
        "2 were processed",
    ),
    (
        lambda: graph(listeners={"obstacles": (replace(VIEWER, latched=True),)}),
        "listener-qos",
        Severity.ERROR,
        "/rviz asks for transient local",
    ),
    (lambda: graph(listeners=dict.fromkeys(OUTPUTS, ())), "no-listener", Severity.INFO, "RViz"),
]


@pytest.mark.parametrize(
    ("facts", "code", "severity", "words"), CASES, ids=[f"{n}-{c[1]}" for n, c in enumerate(CASES)]
)
def test_each_thing_is_found_alone_with_a_remedy(
    facts: Callable[[], Facts], code: str, severity: Severity, words: str
) -> None:
    (finding,) = diagnose(facts())
    assert (finding.code, finding.severity) == (code, severity)
    assert words in f"{finding.sentence} {finding.remedy}"
    assert finding.remedy[0].isupper() or finding.remedy[0] == "`"
    text = as_text(facts(), [finding])
    assert finding.sentence in text and finding.remedy in text
    assert ("Nothing was found" in text) == (severity != Severity.ERROR)


@pytest.mark.parametrize(
    "facts",
    [
        parameters(inference_frame="odom", up="0,0,1"),
        parameters(graph(tf_publishers=2), inference_frame="odom"),
        parameters(around(student_encoder="minilm-l6-v2"), text_encoder="none"),
        parameters(sample(stamp_ns=NOW - 8 * SECOND), max_age=20.0),
        parameters(
            # The clock went on after the cloud had come.
            graph(
                clock_publishers=1,
                clock_ns=GOOD.stamp_ns + 60 * SECOND,
                sample=replace(GOOD, clock_ns=GOOD.stamp_ns + SECOND),
            ),
            use_sim_time=True,
            max_age=2.0,
        ),
        parameters(graph(clock_publishers=1), use_sim_time=True),  # no time came yet
        graph(publishers=(replace(DRIVER, reliability=BEST_EFFORT),)),
        replace(HEALTHY, around=Surroundings(student_needs=("points", "colours"), cuda=True)),
    ],
)
def test_what_is_fine_is_not_complained_about(facts: Facts) -> None:
    assert diagnose(facts) == []


def test_student_and_device_matter_while_the_node_does_not_run() -> None:
    facts = replace(node(state="inactive"), around=Surroundings(student_problem="x.", cuda=False))
    found = {finding.code: finding.severity for finding in diagnose(facts)}
    assert found["student"] == found["device"] == Severity.ERROR


def test_errors_come_before_warnings() -> None:
    facts = graph(publishers=(), sample=None, listeners=dict.fromkeys(OUTPUTS, ()))
    facts = replace(facts, around=Surroundings(shared_memory_free=0, interfaces_problem="x."))
    codes = [finding.code for finding in diagnose(facts)]
    assert codes == ["interfaces", "no-publisher", "shared-memory", "no-listener"]


@given(
    st.builds(
        GraphFacts,
        namespace=st.just("/sas"),
        seconds=st.floats(0.1, 10),
        node=st.none() | st.builds(NodeFacts, name=st.just("/sas/perception")),
        publishers=st.lists(st.builds(Endpoint, st.text(), st.sampled_from([CLOUD, "x"]))).map(
            tuple
        ),
        sample=st.none() | st.builds(Sample),
        clock_ns=st.none() | st.integers(),
    )
)
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_rules_never_fail_and_json_holds_everything(facts: GraphFacts) -> None:
    both = Facts(Surroundings(), facts)
    findings = diagnose(both)
    report = json.loads(json.dumps(as_json(both, findings)))
    assert report["healthy"] == healthy(findings)
    assert [row["code"] for row in report["findings"]] == [finding.code for finding in findings]
    assert {"around", "graph"} == report["facts"].keys()
    assert as_text(both, findings)
    assert all(isinstance(finding, Finding) for finding in findings)


def test_without_ros_the_command_says_so(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in [name for name in sys.modules if name.split(".")[0] == "rclpy"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "rclpy", None)  # type: ignore[arg-type]
    monkeypatch.delitem(sys.modules, "sas_ros.nodes.graph_probe", raising=False)
    assert main(argv=["doctor"]) == 1
    said = capsys.readouterr().out
    assert "ERROR: ROS cannot be used from this Python" in said and "-> Source the ROS 2" in said
    assert main(argv=["doctor", "--seconds", "0"]) == 2
    assert "--seconds" in capsys.readouterr().err


# ------------------------------------------------------------------------------------ surroundings
def test_required_fields_are_those_of_the_files() -> None:
    for path, fields in REQUIRED_FIELDS.items():
        kind, name, *part = path.split(".")
        text = (ROOT / "msg" / kind / f"{name}.{kind}").read_text()
        section = text.split("\n---\n")[part == ["Response"]] if kind == "srv" else text
        lines = [line.split("#")[0].split() for line in section.splitlines()]
        names = [line[1] for line in lines if len(line) == 2 and "=" not in line[1]]
        assert tuple(names) == fields


def test_interfaces_of_older_files_are_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("sas_msgs")
    assert interfaces_problem() == ""
    from sas_msgs.srv import Query

    older = SimpleNamespace(get_fields_and_field_types=lambda: {"text": "string"})
    monkeypatch.setattr(Query, "Request", older)
    assert "has no negatives" in interfaces_problem()
    monkeypatch.setattr("sas_msgs.srv.Query", None)
    assert "is not built" in interfaces_problem()


def test_students_are_looked_at(tmp_path: Path) -> None:
    path = tmp_path / "tiny.safetensors"
    untrained_student().save(path)
    found = look_around(student=str(path), environment={"ROS_DOMAIN_ID": "7"})
    assert (found.student_problem, found.student_encoder, found.domain) == ("", "none", "7")
    assert found.cuda is None and found.shared_memory_free >= 0
    path.write_bytes(path.read_bytes()[:100])
    assert str(path) in look_around(student=str(path)).student_problem
    assert "no student called" in look_around(student="nobody").student_problem
