"""The query service of a running node: statuses, and answers that fit one and the same cloud."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from harness import Probe, Process
from lifecycle_msgs.msg import Transition
from rooms import CHAIR, STEP, coded_cloud, coded_labels, coded_points, number_in_stamp
from sas_msgs.srv import Query

from sas_ros.clouds import read_cloud
from sas_ros.language.available import MINILM, encoder_available

needs_encoder = pytest.mark.skipif(
    encoder_available(MINILM) is not None, reason="the MiniLM text encoder is not installed"
)


def check_one_source(answer: Any) -> int:
    """Header, coordinates and indices of an answer tell the same number; returns it."""
    number = number_in_stamp(answer.source.stamp.nanosec)
    points = coded_points(number)
    assert answer.source.frame_id == "lidar"
    assert answer.instances, answer.message
    for instance in answer.instances:
        assert instance.header == answer.source
        indices = np.array(instance.indices)
        assert len(indices) == instance.num_points > 0
        assert indices.max() < len(points)
        centroid = points[indices].mean(axis=0, dtype=np.float64)
        found = (instance.centroid.x, instance.centroid.y, instance.centroid.z)
        np.testing.assert_allclose(found, centroid, atol=1e-5)
    best = answer.instances[0]
    assert round((best.centroid.x - 3.15) / STEP) == number
    # All copies of the chair's first point are in, so the last index is the cloud's last point.
    assert number == 0 or max(best.indices) == len(points) - 1
    chosen = np.unique(np.concatenate([np.array(i.indices) for i in answer.instances]))
    cloud = read_cloud(answer.cloud)
    np.testing.assert_array_equal(cloud.points, points[chosen])
    assert answer.cloud.header == answer.source
    return number


def test_before_the_first_cloud_there_is_no_data(node: Process, probe: Probe) -> None:
    answer = probe.ask("chair")
    assert answer.status == Query.Response.NO_DATA
    assert "No cloud" in answer.message


def test_a_known_word_is_found(node: Process, probe: Probe) -> None:
    probe.process(coded_cloud(5, stamp_ns=time.time_ns()))
    answer = probe.ask("chair", return_indices=True, return_cloud=True)
    assert answer.status == Query.Response.OK
    assert answer.message == ""
    assert check_one_source(answer) == 5
    best = answer.instances[0]
    overlap = coded_labels(5)[np.array(best.indices)] == CHAIR
    assert overlap.mean() > 0.7
    assert best.label == "chair" and best.id == -1 and 0.5 < best.score <= 1
    assert best.support_height == pytest.approx(0.0, abs=0.1)
    assert 0.3 < best.size.x < 1.0 and 0.3 < best.size.z < 0.7
    assert answer.best_score == pytest.approx(best.score, abs=0.3)
    assert (answer.up.x, answer.up.y, answer.up.z) == (0.0, 0.0, 1.0)
    assert (answer.viewpoint.position.x, answer.viewpoint.orientation.w) == (0.0, 1.0)
    assert answer.student == "coded-room"
    assert answer.map_version == 0
    assert 0 <= answer.age_s < 30
    assert list(answer.timing.names) == ["embed", "match", "cluster"]


def test_indices_and_cloud_come_only_when_asked_for(node: Process, probe: Probe) -> None:
    answer = probe.process(coded_cloud(1, stamp_ns=time.time_ns()))
    assert answer.status == Query.Response.OK
    assert all(len(instance.indices) == 0 for instance in answer.instances)
    assert all(instance.num_points > 0 for instance in answer.instances)
    assert answer.cloud.width == 0


def test_what_is_not_there_is_not_found_and_alternatives_are_named(
    node: Process, probe: Probe
) -> None:
    probe.process(coded_cloud(0, stamp_ns=time.time_ns()))
    answer = probe.ask("sofa")
    assert answer.status == Query.Response.NOT_FOUND
    assert "sofa" in answer.message
    assert not answer.instances
    assert set(answer.alternatives) & {"chair", "table"}
    assert len(answer.alternatives) == len(answer.alternative_scores)


def test_answers_under_a_stream_come_from_one_cloud_each(node: Process, probe: Probe) -> None:
    """Clouds stream as fast as they are taken while queries for old and new words overlap."""
    words = ["chair", "Chair", "something to sit on", "chair", "seat"]
    words = words if encoder_available(MINILM) is None else ["chair", "CHAIR"]
    seen: set[int] = set()
    pending: list[Any] = []
    checked, number = 0, 0
    probe.process(coded_cloud(0, stamp_ns=time.time_ns()))
    end = time.monotonic() + 60.0
    while True:
        enough = checked >= 20 and len(seen) >= 5
        if enough and not pending:
            break
        assert time.monotonic() < end, f"{checked} answers about the clouds {seen}"
        if not enough:
            number += 1
            probe.send(coded_cloud(number, stamp_ns=time.time_ns()))
            for word in words[number % len(words) :][:2]:
                pending.append(probe.ask_async(word, return_indices=True, return_cloud=True))

        def few_open() -> bool:
            return sum(not future.done() for future in pending) < 4

        probe.until(few_open, what="answers")
        for future in [future for future in pending if future.done()]:
            pending.remove(future)
            answer = future.result()
            assert answer.status == Query.Response.OK, answer.message
            seen.add(check_one_source(answer))
            checked += 1
        if enough and pending:
            probe.until(pending[0].done, what="the last answers")


@pytest.mark.parametrize(
    ("fields", "word"),
    [
        ({"text": ""}, "empty"),
        ({"text": " \t "}, "empty"),
        ({"text": "x" * 10_000}, "10000"),
        ({"text": "cha\x07ir"}, "control"),
        ({"text": "chair", "negatives": [""]}, "negative"),
        ({"text": "chair", "threshold": 1.5}, "threshold"),
        ({"text": "chair", "threshold": math.nan}, "threshold"),
        ({"text": "chair", "threshold": -0.1}, "threshold"),
        ({"text": "chair", "source": Query.Request.SOURCE_MAP}, "map"),
        ({"text": "chair", "source": 7}, "source"),
        ({"text": "chair", "target_frame": "base_link"}, "target_frame"),
    ],
)
def test_a_bad_request_is_invalid_and_says_why(
    node: Process, probe: Probe, fields: dict[str, Any], word: str
) -> None:
    probe.process(coded_cloud(0, stamp_ns=time.time_ns()))
    answer = probe.ask(**fields)
    assert answer.status == Query.Response.INVALID
    assert word in answer.message and answer.message.endswith((".", "remove it."))
    assert probe.ask("chair").status == Query.Response.OK


def test_target_frame_may_be_the_source_frame(node: Process, probe: Probe) -> None:
    probe.process(coded_cloud(0, stamp_ns=time.time_ns()))
    assert probe.ask("chair", target_frame="lidar").status == Query.Response.OK


@needs_encoder
@pytest.mark.parametrize("text", ["椅子", "стул", "καρέκλα", "a chair 🪑"])
def test_any_script_is_legal(node: Process, probe: Probe, text: str) -> None:
    probe.process(coded_cloud(0, stamp_ns=time.time_ns()))
    assert probe.ask(text).status in (Query.Response.OK, Query.Response.NOT_FOUND)


@needs_encoder
def test_new_text_is_embedded_and_found(node: Process, probe: Probe) -> None:
    probe.process(coded_cloud(2, stamp_ns=time.time_ns()))
    answer = probe.ask("armchair", return_indices=True, return_cloud=True)
    assert answer.status == Query.Response.OK
    assert check_one_source(answer) == 2
    assert answer.instances[0].label == "armchair"


def test_an_old_snapshot_is_stale_when_an_age_is_given(node: Process, probe: Probe) -> None:
    probe.process(coded_cloud(0, stamp_ns=time.time_ns() - 60 * 10**9))
    request = Query.Request(text="chair")
    request.max_age.sec = 5
    answer = probe.call(Query, "query", request)
    assert answer.status == Query.Response.STALE
    assert answer.age_s > 55 and "s old and max_age is 5 s" in answer.message
    request.max_age.sec = 3600
    assert probe.call(Query, "query", request).status == Query.Response.OK


def test_a_region_limits_the_answer(node: Process, probe: Probe) -> None:
    probe.process(coded_cloud(0, stamp_ns=time.time_ns()))
    request = Query.Request(text="chair", roi_enabled=True)
    request.roi_pose.pose.orientation.w = 1.0
    request.roi_pose.pose.position.x, request.roi_pose.pose.position.y = 3.15, 1.05
    request.roi_size.x = request.roi_size.y = request.roi_size.z = 2.0
    inside = probe.call(Query, "query", request)
    assert inside.status == Query.Response.OK
    assert all(abs(i.centroid.x - 3.15) < 1.1 for i in inside.instances)
    request.roi_pose.pose.position.x = -50.0
    assert probe.call(Query, "query", request).status == Query.Response.NOT_FOUND
    request.roi_pose.header.frame_id = "map"
    assert probe.call(Query, "query", request).status == Query.Response.INVALID
    request.roi_pose.header.frame_id = "lidar"
    request.roi_size.x = 0.0
    assert probe.call(Query, "query", request).status == Query.Response.INVALID


def test_answers_are_bounded_and_say_when_they_were_cut(node: Process, probe: Probe) -> None:
    probe.process(coded_cloud(0, stamp_ns=time.time_ns()))
    assert probe.set_parameter("max_points", 100).successful
    try:
        answer = probe.ask("chair", return_indices=True, return_cloud=True)
        assert answer.status == Query.Response.OK
        assert sum(len(i.indices) for i in answer.instances) == 100
        assert answer.cloud.width == 100
        assert answer.instances[0].num_points > 100
        assert "Cut to 100" in answer.message
    finally:
        assert probe.set_parameter("max_points", 500000).successful
    assert len(probe.ask("chair", max_instances=1).instances) == 1


def test_negatives_compete(node: Process, probe: Probe) -> None:
    probe.process(coded_cloud(0, stamp_ns=time.time_ns()))
    alone = probe.ask("chair")
    against = probe.ask("chair", negatives=["table", "floor"])
    assert alone.status == against.status == Query.Response.OK


def test_known_words_need_no_encoder(
    start_node: Callable[..., Process], domain: int, graph_env: dict[str, str]
) -> None:
    process = start_node("wordless", text_encoder="none")
    probe = Probe(domain, "wordless")
    try:
        answer = probe.process(coded_cloud(3, stamp_ns=time.time_ns()), timeout=60)
        assert answer.status == Query.Response.OK
        unknown = probe.ask("armchair")
        assert unknown.status == Query.Response.INVALID
        assert "text_encoder" in unknown.message and "chair" in unknown.message
        refused = probe.set_labels(["chair", "unicorn"])
        assert not refused.success and "unicorn" in refused.message
        assert probe.set_labels(["chair", "table"]).success
        assert probe.change_state(Transition.TRANSITION_ACTIVE_SHUTDOWN)
        assert probe.state() == "finalized"
        assert probe.ask("chair").status == Query.Response.NOT_ACTIVE
    finally:
        probe.close()
        assert process.interrupt() == 0
