"""Two robots on one machine and in one domain: nothing of one is ever heard by the other."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from harness import Probe, Process, counts, values
from rooms import coded_cloud, number_in_stamp
from sas_msgs.srv import Query
from sensor_msgs.msg import PointCloud2
from std_srvs.srv import Trigger

from sas_ros.mapping import load_map

MAP = Query.Request.SOURCE_MAP


def of_robot(numbers: list[int]) -> Any:
    """The clouds of a robot: their numbers tell whose they are."""
    return [coded_cloud(number, stamp_ns=time.time_ns()) for number in numbers]


def on_map(probe: Probe, clouds: int) -> dict[str, str]:
    """The map's diagnostics once it holds and shows so many clouds."""

    def done(report: dict[str, Any]) -> bool:
        map_ = values(report["map"])
        return map_["clouds"] == str(clouds) and map_["map_version"] == map_["map_version_shown"]

    return values(probe.diagnostics(done)["map"])


def test_two_robots_share_a_domain_and_nothing_else(
    start_node: Callable[..., Process], domain: int, graph_env: dict[str, str], tmp_path: Path
) -> None:
    files = {name: tmp_path / f"{name}.map.safetensors" for name in ("robot1", "robot2")}

    def start(name: str) -> Process:
        return start_node(
            f"{name}/sas", text_encoder="none", map="build", map_frame="lidar", map_file=files[name]
        )

    nodes = {name: start(name) for name in files}
    probes = {name: Probe(domain, f"{name}/sas") for name in files}
    one, two = probes["robot1"], probes["robot2"]
    try:
        for probe in probes.values():
            probe.until(lambda p=probe: p.state() == "active", what="the node")
        heard = two.listen(PointCloud2, "labeled_points")
        mask = two.listen(PointCloud2, "query_mask")
        # Robot 1 sees odd rooms, robot 2 even ones; robot 2 has seen nothing yet.
        for number, cloud in enumerate(of_robot([1, 3]), 1):
            one.process(cloud)
            on_map(one, number)  # the map takes the newest cloud: wait, or it may miss one
        assert two.ask("chair").status == Query.Response.NO_DATA
        for number, cloud in enumerate(of_robot([2, 12]), 1):
            two.process(cloud)
            on_map(two, number)
        answers = [probe.ask("chair", return_indices=True) for probe in (one, two)]
        assert [number_in_stamp(a.source.stamp.nanosec) for a in answers] == [3, 12]
        # The positions tell it as well: room n stands n * 0.25 m along x.
        shift = answers[1].instances[0].centroid.x - answers[0].instances[0].centroid.x
        np.testing.assert_allclose(shift, 9 * 0.25, atol=0.06)
        # A target of one is none of the other's.
        assert one.ask("chair", set_target=True).status == Query.Response.OK
        one.process(coded_cloud(5, stamp_ns=time.time_ns()))
        reports = [probe.diagnostics() for probe in (one, two)]
        assert [values(r["words"])["target"] for r in reports] == ["chair", ""]
        assert not mask
        assert {number_in_stamp(m.header.stamp.nanosec) for m in heard} <= {2, 12}
        assert [counts(r["input"])["received"] for r in reports] == [3, 2]
        assert values(reports[0]["input"])["topic"] == "/robot1/sas/points"
        # A vocabulary of one is none of the other's.
        assert two.set_labels(["chair"]).success
        assert len({values(r["words"])["labels"] for r in
                    (one.diagnostics(), two.diagnostics())}) == 2  # fmt: skip
        # Maps, their services and their files.
        maps = [on_map(one, 3), on_map(two, 2)]
        spans = [
            [item.centroid.x for item in probe.ask("chair", source=MAP).instances]
            for probe in (one, two)
        ]
        assert max(spans[0]) < 4.8 < max(spans[1])  # room 12 is on one of them only
        for name, probe in probes.items():
            saved = probe.call(Trigger, "save_map", Trigger.Request())
            assert saved.success and str(files[name]) in saved.message
        assert [str(len(load_map(file))) for file in files.values()] == [m["voxels"] for m in maps]
        assert two.call(Trigger, "reset_map", Trigger.Request()).success
        before = one.ask("chair", source=MAP)
        assert before.status == Query.Response.OK
        # Robot 1 is killed: after its start it answers from its own file, robot 2 is as it was.
        os.kill(nodes["robot1"].pid, signal.SIGKILL)
        assert nodes["robot1"].wait(10.0) == -signal.SIGKILL
        one.close()  # it still knows the dead node for some seconds
        one = probes["robot1"] = Probe(domain, "robot1/sas")
        assert two.ask("chair").status == Query.Response.OK
        nodes["robot1"] = start("robot1")
        again = one.until(lambda: answered_from_map(one), what="the map after the restart")
        assert [i.centroid for i in again.instances] == [i.centroid for i in before.instances]
        assert again.map_version == before.map_version and again.source == before.source
        assert one.ask("chair").status == Query.Response.NO_DATA
        assert two.ask("chair", source=MAP).status == Query.Response.NO_DATA
    finally:
        for probe in probes.values():
            probe.close()
        for node in nodes.values():
            assert node.interrupt(60.0) == 0, node.output


def answered_from_map(probe: Probe) -> Any:
    answer = probe.ask("chair", source=MAP)
    return answer if answer.status == Query.Response.OK else None
