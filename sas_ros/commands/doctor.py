"""`sas doctor`: look at the running graph and say why nothing comes out, and what to do."""

from __future__ import annotations

import argparse
import json

from sas_ros.errors import SasError


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--namespace", default="sas", help="ROS namespace of the node (sas)")
    parser.add_argument("--node", default="perception", help="name of the node (perception)")
    parser.add_argument("--seconds", type=float, default=8.0, help="how long to look at most (8)")
    parser.add_argument("--json", action="store_true", help="print findings and facts as JSON")


def run(arguments: argparse.Namespace) -> int:
    """Look, judge, print; returns 0, or 1 where an error was found."""
    from sas_ros.doctor import Facts, diagnose
    from sas_ros.doctor.report import as_json, as_text, healthy
    from sas_ros.doctor.surroundings import look_around
    from sas_ros.student.locate import DEFAULT_STUDENT

    if not 0.1 <= arguments.seconds <= 3600:
        raise SasError(f"--seconds must lie in 0.1 to 3600, not {arguments.seconds:g}.")
    graph, ros_problem = None, ""
    try:
        from sas_ros.nodes.graph_probe import look_at_graph
    except ImportError as error:
        ros_problem = " ".join(str(error).split())[:200]
    else:
        graph = look_at_graph(
            arguments.namespace, arguments.node, arguments.seconds, arguments.ros_arguments
        )
    node = graph.node if graph is not None else None
    around = look_around(
        student=(node.text("student") if node is not None else "") or DEFAULT_STUDENT,
        device=node.text("device") if node is not None else "",
        ros_problem=ros_problem,
    )
    facts = Facts(around, graph)
    findings = diagnose(facts)
    if arguments.json:
        print(json.dumps(as_json(facts, findings), indent=1, default=list))
    else:
        print(as_text(facts, findings))
    return 0 if healthy(findings) else 1
