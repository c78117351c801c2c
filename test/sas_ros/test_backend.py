"""The choice of an engine: by name, by measuring, and what it says when one is missing."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from sas_ros.errors import SasError
from sas_ros.sparse import CoordinateManager, SparseTensor, backend, minkowski
from sas_ros.sparse.backend import choose_backend
from sas_ros.student.minkunet import MinkUNet, minkunet14a

CELLS = torch.tensor([[0, -1, 0, 1], [0, 0, 0, 1]])


def test_native_is_taken_by_name_and_on_a_gpu() -> None:
    assert isinstance(choose_backend("native").manager(CELLS), CoordinateManager)
    chosen = choose_backend("auto", "cuda")
    assert chosen.name == "native" and "cuda" in chosen.reason


def test_unknown_backend_is_a_sentence() -> None:
    with pytest.raises(SasError, match="auto, native, minkowski"):
        choose_backend("spconv")


def test_auto_measures_once_and_says_what() -> None:
    if not minkowski.is_installed():
        pytest.skip("MinkowskiEngine is not installed; `make all` builds it")
    chosen = choose_backend("auto")
    times = [float(number) for number in re.findall(r"([\d.]+) ms", chosen.reason)]
    assert len(times) == 2 and min(times) > 0
    assert choose_backend("auto") is chosen
    assert torch.equal(chosen.manager(CELLS).coordinates(1), CELLS)


def test_auto_leaves_native_only_for_a_clear_gain(monkeypatch: pytest.MonkeyPatch) -> None:
    if not minkowski.is_installed():
        pytest.skip("MinkowskiEngine is not installed; `make all` builds it")
    for native, other, name, why in (
        (0.5, 0.25, "minkowski", "It is clearly faster here: native with"),
        (0.25, 0.5, "native", "It is the faster one here: native with"),
        (0.5, 0.45, "native", "Neither is clearly faster here"),
    ):
        backend._faster.cache_clear()
        seconds = {"native": native, "minkowski": other}
        monkeypatch.setattr(backend, "_measure", lambda cells, seconds=seconds: seconds)
        chosen = choose_backend("auto")
        assert chosen.name == name
        assert why in chosen.reason
    backend._faster.cache_clear()


def test_minkowski_for_cpus_refuses_a_gpu() -> None:
    if not minkowski.is_installed():
        pytest.skip("MinkowskiEngine is not installed; `make all` builds it")
    with pytest.raises(SasError, match="CPU only"):
        choose_backend("minkowski", "cuda")


def python(code: str, folder: Path | None = None) -> str:
    """What a fresh interpreter prints, with `folder` first on its path."""
    path = f"import sys; sys.path.insert(0, {str(folder)!r})\n" if folder else "import sys\n"
    done = subprocess.run([sys.executable, "-c", path + code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


CHOOSE = """
from sas_ros.errors import SasError
from sas_ros.sparse.backend import choose_backend
print(choose_backend("auto"))
try:
    choose_backend("minkowski")
except SasError as error:
    print(error)
"""


def test_missing_minkowski_is_a_sentence_and_auto_is_native() -> None:
    auto, named = python("sys.modules['MinkowskiEngine'] = None" + CHOOSE).splitlines()
    assert "name='native'" in auto and "not installed" in auto
    assert "not installed" in named and "native" in named and "make all" in named


def test_broken_minkowski_is_a_sentence_and_auto_is_native(tmp_path: Path) -> None:
    (tmp_path / "MinkowskiEngine.py").write_text("raise ImportError('undefined symbol: sgemm')\n")
    auto, named = python(CHOOSE, tmp_path).splitlines()
    assert "name='native'" in auto and "undefined symbol: sgemm" in auto
    assert "cannot be imported" in named and "undefined symbol: sgemm" in named


def test_minkowski_is_imported_by_nobody_who_does_not_ask_for_it() -> None:
    code = """
from sas_ros.sparse.backend import choose_backend
choose_backend("native")
import sas_ros.segmenter
print("MinkowskiEngine" in sys.modules)
"""
    assert python(code) == "False\n"


def test_native_is_bit_equal_between_runs() -> None:
    torch.manual_seed(0)
    network = MinkUNet(minkunet14a(3, 32))
    generator = torch.Generator().manual_seed(0)
    cells = torch.unique(torch.randint(-20, 20, (3000, 3), generator=generator), dim=0)
    coordinates = torch.nn.functional.pad(cells, (1, 0))
    features = torch.randn((len(cells), 3), generator=generator)

    def run() -> list[torch.Tensor]:
        output = network(SparseTensor(features, CoordinateManager(coordinates))).features
        gradients = torch.autograd.grad(output.square().mean(), list(network.parameters()))
        return [output.detach(), *gradients]

    for threads in (1, 2):
        before = torch.get_num_threads()
        torch.set_num_threads(threads)
        try:
            assert all(torch.equal(a, b) for a, b in zip(run(), run(), strict=True))
        finally:
            torch.set_num_threads(before)
