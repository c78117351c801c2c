"""Why nothing comes out: facts about a live graph in, findings with remedies out; without ROS.

`sas_ros.nodes.graph_probe` gathers the facts about the graph, `surroundings` those about this
machine, `rules` judges both.
"""

from sas_ros.doctor.facts import Facts, GraphFacts, Surroundings
from sas_ros.doctor.rules import Finding, Severity, diagnose

__all__ = ["Facts", "Finding", "GraphFacts", "Severity", "Surroundings", "diagnose"]
