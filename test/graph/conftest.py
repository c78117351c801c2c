"""Graph tests: one node process shared by most tests, brought back to a clean state for each."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Generator, Iterator
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("rclpy", reason="graph tests need rclpy")
pytest.importorskip("sas_msgs", reason="graph tests need the interface package")
sys.path.insert(0, str(Path(__file__).parent))

from harness import (
    START_SECONDS,
    Domain,
    Probe,
    Process,
    environment,
    middleware_facts,
)
from lifecycle_msgs.msg import Transition
from rooms import NAMES, fitted_student

from sas_ros.language.available import MINILM, encoder_available
from sas_ros.language.encoder import load_encoder
from sas_ros.nodes.transport import use_large_cloud_profile

NODE = "sas_ros.nodes.perception_node"
HAS_ENCODER = encoder_available(MINILM) is None


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.graph)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    if report.failed:
        report.sections.append(("Middleware", middleware_facts()))
    return report


@pytest.fixture(scope="session")
def domain() -> Iterator[int]:
    use_large_cloud_profile()  # for the probe's own publishers
    own = Domain()
    yield own.number
    own.release()


@pytest.fixture(scope="session")
def graph_env(domain: int, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    env = environment(domain, tmp_path_factory.mktemp("ros_logs"))
    # The probe lives in this process and must discover the same way.
    with pytest.MonkeyPatch.context() as patch:
        for name in ("ROS_AUTOMATIC_DISCOVERY_RANGE", "ROS_LOG_DIR", "ROS_PYTHON_CHECK_FIELDS"):
            patch.setenv(name, env[name])
        yield env  # type: ignore[misc]


@pytest.fixture(scope="session")
def student(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A student that knows the coded room, with MiniLM words where MiniLM is installed."""
    if HAS_ENCODER:
        embeddings = load_encoder(MINILM).encode(NAMES)
    else:
        rows = np.random.default_rng(5).normal(size=(len(NAMES), 384))
        embeddings = (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)
    path = tmp_path_factory.mktemp("student") / "coded.safetensors"
    fitted_student(embeddings, text_encoder=MINILM if HAS_ENCODER else "none").save(path)
    return path


@pytest.fixture(scope="session")
def start_node(graph_env: dict[str, str], student: Path) -> Iterator[Callable[..., Process]]:
    """Start a perception node: `start_node("sas", up="0,0,1")`; ended after the session."""
    started: list[Process] = []

    def start(namespace: str = "sas", **parameters: object) -> Process:
        merged = {"student": student, "up": "0,0,1", **parameters}
        words = ["--ros-args", "-r", f"__ns:=/{namespace}"]
        for name, value in merged.items():
            words += ["-p", f"{name}:={value}"]
        process = Process(NODE, words, env=graph_env)
        started.append(process)
        return process

    yield start
    for process in started:
        if process.running:
            process.interrupt(10.0)


@pytest.fixture(scope="session")
def shared_node(start_node: Callable[..., Process]) -> Process:
    return start_node("sas", input_timeout=2.0)


@pytest.fixture
def probe(graph_env: dict[str, str], domain: int) -> Iterator[Probe]:
    own = Probe(domain)
    yield own
    own.close()


@pytest.fixture
def node(shared_node: Process, probe: Probe) -> Iterator[Process]:
    """The shared node: active, without snapshot, target and changed vocabulary."""
    if probe.state() == "unconfigured":
        end = time.monotonic() + START_SECONDS
        while probe.state() != "active" and time.monotonic() < end:
            probe.change_state(Transition.TRANSITION_CONFIGURE)
            probe.change_state(Transition.TRANSITION_ACTIVATE)
    elif probe.state() == "active":
        assert probe.change_state(Transition.TRANSITION_DEACTIVATE)
        assert probe.change_state(Transition.TRANSITION_ACTIVATE)
    else:
        assert probe.change_state(Transition.TRANSITION_ACTIVATE)
    yield shared_node
    assert shared_node.running, shared_node.output


def now_ns() -> int:
    return time.time_ns()
