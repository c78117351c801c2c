"""Shared memory that others do not find any more."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from harness import Domain, Probe
from inprocess import Running
from students import untrained_student

from sas_ros.nodes import points_input
from sas_ros.nodes.diagnostics import input_status
from sas_ros.nodes.shared_memory import SHARED_MEMORY, lost_ports


@pytest.fixture
def own_domain(graph_env: dict[str, str]) -> Iterator[int]:
    own = Domain()
    yield own.number
    own.release()


def ports_of(domain: int) -> dict[str, Path]:
    """The files of the ports that RTPS gives to a domain."""
    first = 7400 + 250 * domain
    numbers = range(first, first + 250)
    paths = [SHARED_MEMORY / f"{name}_port{n}" for name in ("fastdds", "fastrtps") for n in numbers]
    return {path.name: path for path in paths if path.exists()}


def test_a_node_says_that_nobody_reaches_it_any_more(
    own_domain: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(points_input, "LOOK_SECONDS", 0.0)
    untrained_student().save(tmp_path / "tiny.safetensors")
    for path in ports_of(own_domain).values():
        path.unlink()  # of an earlier run that was killed
    running = Running(own_domain, "removed", student=str(tmp_path / "tiny.safetensors"))
    probe = Probe(own_domain, "removed")
    try:
        probe.publisher()
        ports = ports_of(own_domain)
        if not ports:
            pytest.skip("the middleware is not Fast DDS, or has no shared memory")
        assert not ports.keys() & set(lost_ports())
        state = running.node._input.state
        probe.until(lambda: state().publishers, what="the publisher")
        assert "sends nothing" in input_status(state(), {}, 0.0).message
        for path in ports.values():
            path.unlink()
        assert ports.keys() <= set(lost_ports())
        state()
        said = input_status(state(), {}, 0.0).message
        assert all(name in said for name in ports) and "Start the node again." in said
    finally:
        probe.close()
        running.stop()


def test_a_process_without_the_middleware_has_lost_nothing(tmp_path: Path) -> None:
    assert lost_ports(tmp_path / "no such process") == []
    (tmp_path / "fd").mkdir()
    (tmp_path / "fd" / "3").symlink_to(SHARED_MEMORY / "fastdds_port7411_el")
    assert lost_ports(tmp_path) == []  # its memory is not told
    (tmp_path / "maps").write_text(
        "7f00-7f10 rw-s 00000000 00:19 17                 /dev/shm/fastdds_port7411\n"
    )
    assert lost_ports(tmp_path, tmp_path) == ["fastdds_port7411"]
