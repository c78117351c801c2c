"""The memory model: the engine stays below it, budgets become voxels, free memory is found."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from sas_ros import memory
from sas_ros.student.minkunet import MinkUNetConfig, minkunet18a

# What a pass adds to the resident memory of a process of its own.
PEAK = """
import sys, torch
from sas_ros.memory import pass_bytes
from sas_ros.segmenter import Segmenter
from sas_ros.student.minkunet import MinkUNet, MinkUNetConfig, minkunet18a
from sas_training.bench.student import room_surface
from students import student_of

def status(key):
    lines = open("/proc/self/status").read().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(key))

tiny = MinkUNetConfig(2, 384, 24, (24, 32, 64, 128, 96, 64, 32, 32), (1,) * 8)
config = {"tiny": tiny, "minkunet18a": minkunet18a(2, 512)}[sys.argv[1]]
if sys.argv[2] == "surface":
    cells = room_surface(int(sys.argv[3]))
elif sys.argv[2] == "scatter":  # points in space, most without any neighbour
    torch.manual_seed(0)
    cells = torch.nn.functional.pad(torch.randint(0, 500, (int(sys.argv[3]) // 3, 3)), (1, 0))
    cells = torch.unique(cells, dim=0)
else:
    side = torch.arange(round((int(sys.argv[3]) / 32) ** 0.5))
    cells = torch.cartesian_prod(torch.zeros(1, dtype=torch.int64), side, side, torch.arange(32))
segmenter = Segmenter(student_of(config), device="cpu")
segmenter.warm_up()
before = status("VmRSS")
segmenter._unit(cells.int(), torch.ones((len(cells), 2)))
print(status("VmHWM") - before, pass_bytes(config, len(cells), 4))
"""


@pytest.mark.slow
@pytest.mark.parametrize("network", ["tiny", "minkunet18a"])
@pytest.mark.parametrize("shape", ["surface", "block", "scatter"])
def test_a_pass_takes_no_more_than_the_model_says(network: str, shape: str) -> None:
    helpers = Path(__file__).resolve().parents[1] / "helpers"
    code = f"import sys; sys.path.insert(0, {str(helpers)!r})\n" + PEAK
    command = [sys.executable, "-c", code, network, shape, "100000"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    taken, allowed = (int(word) for word in done.stdout.split()[-2:])
    assert allowed / 8 < taken < allowed


def test_budgets_become_voxels_and_back() -> None:
    config = minkunet18a(2, 512)
    for voxels in (10_000, 300_000):
        assert memory.voxels_within(memory.pass_bytes(config, voxels, 4), config, 4) == voxels
    assert memory.voxels_within(0, config, 4) == memory.SMALLEST_TILE
    assert memory.voxel_bytes(config, 2) < memory.voxel_bytes(config, 4)
    assert memory.voxel_bytes(MinkUNetConfig(2, 16, 8, (8,) * 8, (1,) * 8), 4) < 4_000


def test_votes_keep_their_sum_beside_the_pass() -> None:
    config = minkunet18a(2, 512)
    more = memory.pass_bytes(config, 1000, 4, votes=8) - memory.pass_bytes(config, 1000, 4)
    assert more == 1000 * 4 * 512


def test_the_default_follows_free_memory_only_where_it_is_short(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    cpu = torch.device("cpu")
    for free, budget in ((2**40, 2**31), (2**32, 2**31), (3 * 2**30, 3 * 2**29), (1, 2**29)):
        monkeypatch.setattr(memory, "free_bytes", lambda _, free=free: free)
        assert memory.default_budget(cpu) == budget


def test_free_memory_is_that_of_the_container_where_it_is_less(tmp_path: Path) -> None:
    membership = tmp_path / "membership"
    assert memory._free_in_container(tmp_path, membership) is None
    (tmp_path / "memory.max").write_text("max\n")
    (tmp_path / "memory.current").write_text("5\n")
    assert memory._free_in_container(tmp_path, membership) is None
    (tmp_path / "memory.max").write_text("105\n")
    assert memory._free_in_container(tmp_path, membership) == 100
    (tmp_path / "memory.stat").write_text("anon 1\ninactive_file 3\n")
    assert memory._free_in_container(tmp_path, membership) == 103
    own = tmp_path / "system.slice" / "sas.service"
    own.mkdir(parents=True)
    membership.write_text("0::/system.slice/sas.service\n")
    (own / "memory.max").write_text("50\n")
    (own / "memory.current").write_text("20\n")
    assert memory._free_in_container(tmp_path, membership) == 30
    assert memory.free_bytes(torch.device("cpu")) > 2**20
