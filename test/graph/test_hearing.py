"""A subscription that stays deaf, and publishers that send nothing for long."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from harness import Domain, Probe, cloud_message
from inprocess import Running
from rclpy.callback_groups import MutuallyExclusiveCallbackGroup
from rooms import coded_cloud
from students import untrained_student

from sas_ros.nodes import points_input

PATIENCE = 0.5
TOPIC = "/hearing/points"


@pytest.fixture
def own_domain(graph_env: dict[str, str]) -> Iterator[int]:
    own = Domain()
    yield own.number
    own.release()


@pytest.fixture
def running(own_domain: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Running]:
    monkeypatch.setattr(points_input, "FIRST_PATIENCE", PATIENCE)
    untrained_student().save(tmp_path / "tiny.safetensors")
    own = Running(own_domain, "hearing", student=str(tmp_path / "tiny.safetensors"))
    if not points_input.is_awake():  # another middleware, or one that does not name its threads
        monkeypatch.setattr(points_input, "is_awake", lambda: True)
    yield own
    own.stop()


@pytest.fixture
def near(own_domain: int) -> Iterator[Probe]:
    own = Probe(own_domain, "hearing")
    yield own
    own.close()


def input_of(running: Running) -> points_input.PointsInput:
    return running.node._input


def received(running: Running) -> int:
    return running.node._tally.snapshot()["received"]


def test_a_deaf_subscription_is_replaced(running: Running, near: Probe) -> None:
    deaf = next(s for s in running.node.subscriptions if s.topic_name == TOPIC)
    busy = MutuallyExclusiveCallbackGroup()
    busy.add_entity(deaf)
    assert busy.beginning_execution(deaf)
    deaf.callback_group = busy  # so the executor no longer waits for its clouds
    message = cloud_message(coded_cloud(0))
    publisher = near.publisher()

    def heard() -> bool:
        publisher.publish(message)
        return received(running) >= 5

    near.until(heard, what="clouds on a second subscription")
    assert input_of(running).state().second_tries >= 1


def test_nothing_is_lost_or_comes_twice_after_a_silence(running: Running, near: Probe) -> None:
    publisher = near.publisher()
    near.until(lambda: input_of(running).state().second_tries >= 2, what="a second try")
    near.until(lambda: publisher.get_subscription_count() == 2, what="both subscriptions")
    for number in range(1, 6):
        publisher.publish(cloud_message(coded_cloud(number)))
        near.until(lambda n=number: received(running) >= n, what=f"cloud {number}")
    near.until(lambda: publisher.get_subscription_count() == 1, what="one subscription")
    assert received(running) == 5


def test_without_a_publisher_nothing_is_tried(running: Running, near: Probe) -> None:
    state = input_of(running).state
    near.until(lambda: (state().silent_for or 0.0) > 3 * PATIENCE, what="a silence")
    assert state().second_tries == 0
    near.until(lambda: near.node.count_subscribers(TOPIC) == 1, what="its one subscription")


def test_a_slow_publisher_makes_it_more_patient(running: Running, near: Probe) -> None:
    own = input_of(running)
    near.publisher()
    near.until(lambda: own.state().second_tries >= 1, what="a second try")
    own._receive(min(own._subscriptions), cloud_message(coded_cloud(0)))  # as the older hears it
    began, tries = time.monotonic(), own.state().second_tries
    near.until(lambda: own.state().second_tries > tries, what="another try")
    assert time.monotonic() - began > 1.8 * PATIENCE


def test_a_middleware_that_is_locked_up_is_left_alone(
    running: Running, near: Probe, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A second subscription would hang as well, with the lock that the watch needs to say so."""
    looks: list[int] = []

    def locked_up() -> bool:
        looks.append(1)
        return False

    monkeypatch.setattr(points_input, "is_awake", locked_up)
    near.publisher()
    near.until(lambda: len(looks) >= 3, what="three looks")
    assert input_of(running).state().second_tries == 0
