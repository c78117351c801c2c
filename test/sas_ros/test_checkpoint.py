"""Published checkpoints: the same network comes out, and nothing in a file is ever run."""

from __future__ import annotations

import io
import json
import os
import pickle
import zipfile
from argparse import Namespace
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file

from sas_ros.errors import SasError
from sas_ros.language.vocabulary import Vocabulary, distinct_colors
from sas_ros.sparse import CoordinateManager, SparseTensor, minkowski
from sas_ros.student.bundle import StudentBundle
from sas_ros.student.checkpoint import read_checkpoint
from sas_ros.student.minkunet import (
    MinkUNet,
    MinkUNetConfig,
    count_parameters,
    minkunet14a,
    minkunet18a,
    minkunet34c,
)
from sas_ros.student.published import (
    published_network,
    student_from_checkpoint,
    text_encoder_of,
)
from sas_ros.student.recognition import family_name, fitting_weights, recognise

SMALL = MinkUNetConfig(3, 16, 8, (8, 8, 8, 8, 12, 8, 8, 8), (1, 2, 1, 1, 1, 1, 2, 1))


def small_state(prefix: str = "module.net3d.", config: MinkUNetConfig = SMALL) -> OrderedDict:
    torch.manual_seed(0)
    return OrderedDict((prefix + k, v) for k, v in MinkUNet(config).state_dict().items())


def save(path: Path, content: Any, **options: Any) -> Path:
    torch.save(content, path, **options)
    return path


def student(path: Path, width: int = 16) -> StudentBundle:
    checkpoint = read_checkpoint(path)
    names = ("wall", "chair")
    vocabulary = Vocabulary(names, np.eye(2, width), (False, True), distinct_colors(2))
    return student_from_checkpoint(
        checkpoint,
        published_network(checkpoint),
        vocabulary,
        name="imported",
        text_encoder="none",
        voxel_size=0.02,
        embedded_by="a test",
    )


# ---------------------------------------------------------------- against MinkowskiEngine
def needs_minkowski() -> None:
    if not minkowski.is_installed():
        if os.environ.get("SAS_REQUIRE_MINKOWSKI"):
            pytest.fail("MinkowskiEngine is not installed, and is required here.")
        pytest.skip("MinkowskiEngine is not installed; `make all` builds it")
    minkowski.check(torch.device("cpu"))


def surface(seed: int) -> torch.Tensor:
    """(M, 4) shuffled voxels of a floor and a wall, on both sides of the origin."""
    generator = torch.Generator().manual_seed(seed)
    a, b = torch.meshgrid(torch.arange(-21, 19), torch.arange(-18, 20), indexing="ij")
    zero = torch.zeros_like(a)
    planes = [torch.stack(p, -1).reshape(-1, 3) for p in ((a, b, zero - 3), (a, zero - 18, b))]
    cells = torch.unique(torch.cat(planes), dim=0)
    cells = cells[torch.rand(len(cells), generator=generator) < 0.8]
    cells = cells[torch.randperm(len(cells), generator=generator)]
    return torch.nn.functional.pad(cells, (1, 0))


def random_statistics(network: torch.nn.Module, seed: int) -> None:
    """Every batch norm another affine map, as after training; fresh ones do nothing."""
    generator = torch.Generator().manual_seed(seed)
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm1d):
            shape = module.weight.shape
            module.weight.data = 0.6 + 0.8 * torch.rand(shape, generator=generator)
            module.bias.data = 0.2 * torch.randn(shape, generator=generator)
            module.running_mean = 0.2 * torch.randn(shape, generator=generator)
            module.running_var = 0.5 + torch.rand(shape, generator=generator)
            module.num_batches_tracked += 17


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "config"),
    [
        ("MinkUNet14A", minkunet14a(3, 512)),
        ("MinkUNet18A", minkunet18a(3, 512)),
        ("MinkUNet18A", minkunet18a(3, 768)),
        ("MinkUNet34C", minkunet34c(3, 512)),
    ],
)
def test_a_training_checkpoint_of_minkowski_engine_gives_the_same_features(
    name: str, config: MinkUNetConfig, tmp_path: Path
) -> None:
    needs_minkowski()
    from minkowski_unet import MinkowskiUNet

    class Published(torch.nn.Module):
        """As upstream: the 3D network is one member of the model."""

        def __init__(self) -> None:
            super().__init__()
            self.net3d = MinkowskiUNet(config.out_channels, config.planes, config.layers)

    torch.manual_seed(3)
    model = Published()
    network = model.net3d
    cells = surface(4)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-4)
    small = cells[:400]
    network(torch.ones(len(small), 3), small.int()).square().mean().backward()
    optimizer.step()
    random_statistics(network, seed=5)
    network.eval()
    with torch.inference_mode():
        expected = network(torch.ones(len(cells), 3), cells.int())

    path = tmp_path / "model_best.pth.tar"
    distributed = {f"module.{key}": value for key, value in model.state_dict().items()}
    save(
        path,
        {
            "epoch": 87,
            "state_dict": OrderedDict(distributed),
            "optimizer": optimizer.state_dict(),
            "best_iou": np.float64(0.5321),
        },
    )
    checkpoint = read_checkpoint(path)
    assert checkpoint.epoch == 87 and checkpoint.best_iou == 0.5321 and not checkpoint.ignored
    if name == "MinkUNet18A":
        assert len(checkpoint.weights) == 289
    names = sorted(checkpoint.weights)
    assert names == sorted(network.state_dict())
    imported = student(path, config.out_channels)
    assert imported.provenance["architecture"] == name
    assert MinkUNetConfig.from_dict(imported.architecture) == config

    imported.save(tmp_path / "bundle.safetensors")
    native = StudentBundle.load(tmp_path / "bundle.safetensors").network()
    assert count_parameters(native) == sum(p.numel() for p in network.parameters())
    with torch.inference_mode():
        inputs = SparseTensor(torch.ones(len(cells), 3), CoordinateManager(cells))
        features = native(inputs).features
    scale = float(expected.abs().max())
    assert float((features - expected).abs().max()) < 1e-4 * scale
    cosine = torch.nn.functional.cosine_similarity(features, expected)
    assert float(cosine.min()) > 1 - 1e-4
    # The comparison can tell: voxels differ from each other by far more than the tolerance.
    assert float((expected - expected.mean(0)).abs().max()) > 0.05 * scale


# ---------------------------------------------------------------- forms of a file
@pytest.mark.parametrize("prefix", ["", "module.", "net3d.", "module.net3d."])
@pytest.mark.parametrize("bare", [False, True])
def test_prefixes_and_bare_state_dicts(prefix: str, bare: bool, tmp_path: Path) -> None:
    state = small_state(prefix)
    path = save(tmp_path / "a.pth", state if bare else {"state_dict": state, "best_iou": 0.25})
    checkpoint = read_checkpoint(path)
    assert checkpoint.epoch is None and checkpoint.best_iou == (None if bare else 0.25)
    expected = small_state("")
    assert checkpoint.weights.keys() == expected.keys()
    weights = student(path).network().state_dict()
    assert all(torch.equal(weights[key], value) for key, value in expected.items())


def test_safetensors_and_the_format_of_old_torch_hold_the_same(tmp_path: Path) -> None:
    state = small_state()
    save_file(dict(state), tmp_path / "a.safetensors")
    old = tmp_path / "old.pth"
    save(old, {"state_dict": state}, _use_new_zipfile_serialization=False)
    assert not zipfile.is_zipfile(old)
    for path in (tmp_path / "a.safetensors", old):
        read = read_checkpoint(path).weights
        assert all(torch.equal(read[k], v) for k, v in small_state("").items())


def test_half_precision_becomes_single(tmp_path: Path) -> None:
    state = {k: v.half() if v.is_floating_point() else v for k, v in small_state().items()}
    bundle = student(save(tmp_path / "half.pth", {"state_dict": state}))
    for key, value in bundle.weights.items():
        counter = key.endswith("num_batches_tracked")
        assert value.dtype == (torch.int64 if counter else torch.float32)
        assert torch.equal(value, state[f"module.net3d.{key}"].to(value.dtype))


def test_other_tensors_are_counted_and_left_out(tmp_path: Path) -> None:
    state = small_state()
    state["module.clip.token_embedding"] = torch.zeros(3, 2)
    state["module.clip.positional"] = torch.zeros(2)
    state["logit_scale"] = torch.zeros(())
    checkpoint = read_checkpoint(save(tmp_path / "a.pth", {"state_dict": state, "epoch": 3}))
    assert checkpoint.ignored == {"clip": 2, "logit_scale": 1} and checkpoint.epoch == 3
    assert checkpoint.weights.keys() == small_state("").keys()


@pytest.mark.parametrize(
    ("number", "value"),
    [
        (np.float64(0.5), 0.5),
        (np.float32(0.25), 0.25),
        (np.int64(3), 3.0),
        (np.dtype(">f8").type(0.5), 0.5),
        (torch.tensor(0.75), 0.75),
        (torch.tensor(0.75, device="meta"), None),
        (torch.tensor([0.75]).to_sparse(), None),
        (float("nan"), None),
        ("much", None),
        (None, None),
    ],
)
def test_best_iou_of_any_kind(number: Any, value: float | None, tmp_path: Path) -> None:
    path = save(tmp_path / "a.pth", {"state_dict": small_state(), "best_iou": number})
    assert read_checkpoint(path).best_iou == value


def test_numpy_1_and_numpy_2_name_the_scalar_differently(tmp_path: Path) -> None:
    path = save(tmp_path / "a.pth", {"state_dict": small_state(), "best_iou": np.float64(0.5)})
    new, old = b"numpy._core.multiarray", b"numpy.core.multiarray"
    for source, target in ((new, old), (old, new)):
        assert read_checkpoint(path).best_iou == 0.5
        content = io.BytesIO()
        with zipfile.ZipFile(path) as file, zipfile.ZipFile(content, "w") as copy:
            for name in file.namelist():
                copy.writestr(name, file.read(name).replace(source, target))
        assert content.getvalue() != path.read_bytes()
        path.write_bytes(content.getvalue())


# ---------------------------------------------------------------- recognition
@pytest.mark.parametrize(
    ("config", "name"),
    [
        (minkunet14a(), "MinkUNet14A"),
        (minkunet18a(3, 768), "MinkUNet18A"),
        (minkunet34c(), "MinkUNet34C"),
        (MinkUNetConfig(planes=(32, 64, 128, 256, 384, 384, 384, 384)), "MinkUNet18D"),
    ],
)
def test_the_family_is_recognised_from_names_and_shapes(config: MinkUNetConfig, name: str) -> None:
    with torch.device("meta"):
        weights = MinkUNet(config).state_dict()
    assert recognise(weights) == config and family_name(config) == name


def test_networks_without_a_name_are_described(tmp_path: Path) -> None:
    bundle = student(save(tmp_path / "a.pth", small_state()))
    assert bundle.provenance["architecture"] == (
        "a MinkUNet of stem 8, planes 8 8 8 8 12 8 8 8, blocks 1 2 1 1 1 1 2 1"
    )
    assert MinkUNetConfig.from_dict(bundle.architecture) == SMALL


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"block3.0.norm2.bn.bias": None}, r"lacks block3\.0\.norm2\.bn\.bias"),
        ({"final.kernel": None}, r"no MinkUNet: it lacks final\.kernel"),
        ({"block5.0.conv1.kernel": None}, r"lacks block5\.0\.conv1\.kernel"),
        ({"final.bias": torch.zeros(16)}, r"do not belong to it: final\.bias"),
        ({"bn0.bn.bias": torch.zeros(9)}, r"bn0\.bn\.bias is \(9,\), not \(8,\)"),
        ({"conv0p1s1.kernel": torch.zeros(27, 3, 8)}, r"\(27, 3, 8\), not \(125, 3, 8\)"),
        ({"conv0p1s1.kernel": torch.zeros(3, 8)}, "2 axes"),
        ({"conv0p1s1.kernel": torch.zeros(125, 6, 8)}, "6 input channels"),
        ({"conv0p1s1.kernel": torch.zeros(125, 3, 5000)}, "4096"),
        ({"block1.0.conv3.kernel": torch.zeros(8, 8)}, "bottleneck"),
        ({"bn0.bn.weight": torch.full((8,), torch.nan)}, "not finite"),
        ({"bn0.bn.weight": torch.zeros(8, dtype=torch.complex64)}, "plain numbers"),
        ({"bn0.bn.weight": torch.zeros(8).to_sparse()}, "plain numbers"),
        ({"bn0.bn.weight": torch.zeros(8, device="meta")}, "plain numbers"),
        (
            {"bn0.bn.weight": torch.quantize_per_tensor(torch.zeros(8), 1.0, 0, torch.quint8)},
            "plain",
        ),
        ({"bn0.bn.weight": torch.nested.nested_tensor([torch.zeros(8)])}, "plain numbers"),
        ({"bn0.bn.weight": torch.zeros(1).expand(8)}, "plain numbers"),
        ({f"block1.{n}.conv1.kernel": torch.zeros(27, 8, 8) for n in range(65)}, "64 blocks"),
    ],
)
def test_what_does_not_fit_is_named(
    change: dict[str, torch.Tensor | None], words: str, tmp_path: Path
) -> None:
    state = small_state("net3d.")
    for key, value in change.items():
        if value is None:
            del state[f"net3d.{key}"]
        else:
            state[f"net3d.{key}"] = value
    with pytest.raises(SasError, match=words):
        published_network(read_checkpoint(save(tmp_path / "a.pth", state)))


def test_long_lists_are_cut() -> None:
    weights = {k: v for k, v in small_state("").items() if ".norm1." not in k}
    with pytest.raises(SasError, match=r"and \d\d more") as raised:
        fitting_weights(SMALL, weights)
    assert len(str(raised.value)) < 400


def test_width_decides_the_text_encoder() -> None:
    assert "ViT-B-32" in text_encoder_of(512) and "ViT-L-14-336" in text_encoder_of(768)
    with pytest.raises(SasError, match="--text-encoder"):
        text_encoder_of(640)


# ---------------------------------------------------------------- hostile and broken files
class Runs:
    """Pickled as a call of `function`."""

    def __init__(self, function: Any, *arguments: Any) -> None:
        self.call = (function, arguments)

    def __reduce__(self) -> tuple[Any, tuple[Any, ...]]:
        return self.call


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize(
    ("function", "arguments", "name"),
    [
        (os.system, ("touch {proof}",), "system"),
        (eval, ("open('{proof}', 'w')",), "eval"),
        (pickle.loads, (b"",), "loads"),
        (np.fromfile, ("{proof}",), "fromfile"),
        (Namespace, (), "argparse.Namespace"),
    ],
)
def test_code_in_a_file_is_named_and_not_run(
    function: Any, arguments: tuple[Any, ...], name: str, zipped: bool, tmp_path: Path
) -> None:
    proof = tmp_path / "proof"
    filled = [a.format(proof=proof) if isinstance(a, str) else a for a in arguments]
    content = {"state_dict": small_state(), "best_iou": Runs(function, *filled)}
    path = save(tmp_path / "evil.pth", content, _use_new_zipfile_serialization=zipped)
    with pytest.raises(SasError, match="Nothing was run") as raised:
        read_checkpoint(path)
    assert name in str(raised.value) and not proof.exists()
    raw = tmp_path / "raw.pth"
    raw.write_bytes(pickle.dumps(content, protocol=2))
    with pytest.raises(SasError):
        read_checkpoint(raw)
    assert not proof.exists()


def test_numpy_is_not_called_with_what_a_file_says(tmp_path: Path) -> None:
    scalar = np.float64(0).__reduce__()[0]
    for kind, content in (
        (np.dtype("O"), bytes(8)),
        (np.dtype("f8"), b"x"),
        (np.dtype("U9"), b"x"),
    ):
        evil = Runs(scalar, kind, content)
        path = save(tmp_path / "a.pth", {"state_dict": small_state(), "best_iou": evil})
        with pytest.raises(SasError, match="no readable checkpoint"):
            read_checkpoint(path)


def test_the_allow_list_holds_only_while_a_file_is_read(tmp_path: Path) -> None:
    path = save(tmp_path / "a.pth", {"state_dict": small_state(), "best_iou": np.float64(0.5)})
    read_checkpoint(path)
    with pytest.raises(pickle.UnpicklingError):
        torch.load(path, weights_only=True)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ([1, 2], "holds a list"),
        ({"state_dict": 3}, "state_dict"),
        ({"epoch": 3}, "no tensors"),
        ({"clip.weight": torch.zeros(2)}, "no MinkUNet"),
        ({"net3d.final.kernel": torch.zeros(2, 3)}, r"lacks conv0p1s1\.kernel"),
        (
            {"net3d.bn0.bn.bias": torch.zeros(2), "module.net3d.bn0.bn.bias": torch.zeros(2)},
            "twice",
        ),
    ],
)
def test_files_that_are_no_checkpoint(content: Any, words: str, tmp_path: Path) -> None:
    with pytest.raises(SasError, match=words):
        published_network(read_checkpoint(save(tmp_path / "a.pth", content)))


def test_compressed_archives_are_refused(tmp_path: Path) -> None:
    """PyTorch stores its members; a compressed one may be a thousand times as large in memory."""
    path = save(tmp_path / "a.pth", small_state())
    packed = tmp_path / "b.pth"
    with zipfile.ZipFile(path) as old, zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as new:
        for name in old.namelist():
            new.writestr(name, old.read(name))
    with pytest.raises(SasError, match="compressed"):
        read_checkpoint(packed)


def test_numbers_and_names_of_a_file_cannot_hurt(tmp_path: Path) -> None:
    state = {**small_state(), "module.clip\x1b[2J.weight": torch.zeros(1)}
    content = {"epoch": 10**400, "state_dict": state}
    checkpoint = read_checkpoint(save(tmp_path / "a.pth", content))
    assert checkpoint.epoch is None
    assert list(checkpoint.ignored) == ["clip\\x1b[2J"]


def test_files_that_are_not_there_or_a_bundle(tmp_path: Path) -> None:
    with pytest.raises(SasError, match="no checkpoint at"):
        read_checkpoint(tmp_path / "absent.pth")
    student(save(tmp_path / "a.pth", small_state())).save(tmp_path / "b.safetensors")
    with pytest.raises(SasError, match="bundle already"):
        read_checkpoint(tmp_path / "b.safetensors")


TINY = MinkUNetConfig(3, 2, 1, (1,) * 8, (1,) * 8)


def tiny_file(zipped: bool) -> bytes:
    content = io.BytesIO()
    checkpoint = {"state_dict": small_state("net3d.", TINY), "best_iou": np.float64(0.5)}
    torch.save(checkpoint, content, _use_new_zipfile_serialization=zipped)
    return content.getvalue()


def pickle_of(file: bytes) -> bytes:
    """The pickle inside a file, where mutations get further than the archive's checksums."""
    with zipfile.ZipFile(io.BytesIO(file)) as archive:
        return archive.read(next(n for n in archive.namelist() if n.endswith("data.pkl")))


def with_pickle(file: bytes, content: bytes) -> bytes:
    result = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(file)) as archive, zipfile.ZipFile(result, "w") as copy:
        for name in archive.namelist():
            copy.writestr(name, content if name.endswith("data.pkl") else archive.read(name))
    return result.getvalue()


ZIPPED, LEGACY = tiny_file(True), tiny_file(False)


def damaged(data: st.DataObject, whole: bytes) -> bytes:
    content = bytearray(whole)
    for _ in range(data.draw(st.integers(1, 4))):
        position = data.draw(st.integers(0, len(content) - 1))
        content[position] = data.draw(st.integers(0, 255))
    return bytes(
        content[: data.draw(st.integers(0, len(content)))] if data.draw(st.booleans()) else content
    )


@settings(max_examples=80, deadline=None, derandomize=True)
@given(data=st.data())
@pytest.mark.parametrize("kind", ["random", "zip", "pickle", "legacy", "safetensors"])
def test_whatever_a_file_holds_it_is_a_network_or_a_sentence(
    kind: str, tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    path = tmp_path_factory.getbasetemp() / f"fuzz-{kind}.pth"
    if kind == "random":
        start = data.draw(st.sampled_from([b"", b"PK\x03\x04", b"\x80\x02", ZIPPED[:60]]))
        path.write_bytes(start + data.draw(st.binary(max_size=300)))
    elif kind == "safetensors":
        path = path.with_suffix(".safetensors")
        save_file(dict(small_state("net3d.", TINY)), path)
        path.write_bytes(damaged(data, path.read_bytes()))
    elif kind == "pickle":
        path.write_bytes(with_pickle(ZIPPED, damaged(data, pickle_of(ZIPPED))))
    else:
        path.write_bytes(damaged(data, ZIPPED if kind == "zip" else LEGACY))
    try:
        config, weights = published_network(read_checkpoint(path))
    except SasError as error:
        assert "\n" not in str(error) and len(str(error)) < 2000
    else:
        assert all(torch.isfinite(weight).all() for weight in weights.values())
        json.dumps(config.to_dict())
