"""Steps along the orthogonalised momentum, against the singular value decomposition."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from sas_ros.sparse import CoordinateManager, SparseTensor
from sas_ros.student.minkunet import MinkUNet, MinkUNetConfig
from sas_training.distill.muon import Muon, orthogonalised
from sas_training.distill.optimiser import OPTIMISERS, Optimiser, student_optimiser


@settings(max_examples=60, deadline=None)
@given(
    rows=st.integers(1, 40),
    columns=st.integers(1, 40),
    seed=st.integers(0, 2**31),
    scale=st.sampled_from([1e-6, 1.0, 1e6]),
)
def test_directions_are_kept_and_lengths_made_alike(
    rows: int, columns: int, seed: int, scale: float
) -> None:
    matrix = scale * np.random.default_rng(seed).normal(size=(rows, columns))
    u, lengths, v = np.linalg.svd(matrix, full_matrices=False)
    made = orthogonalised(torch.from_numpy(matrix)).numpy()
    in_its_axes = u.T @ made @ v.T
    diagonal = np.diag(in_its_axes)
    assert np.abs(in_its_axes - np.diag(diagonal)).max() < 1e-9
    large = lengths > np.linalg.norm(matrix) / 200
    assert (diagonal[large] > 0.6).all() and (diagonal < 1.3).all()
    single = orthogonalised(torch.from_numpy(matrix).float()).numpy()
    np.testing.assert_allclose(single, made, atol=2e-3)


def test_no_gradient_is_no_direction() -> None:
    assert not orthogonalised(torch.zeros(6, 3)).any()


def polynomial(matrix: np.ndarray) -> np.ndarray:
    """Five of the source's iterations, written down once more."""
    x: np.ndarray = matrix / np.linalg.norm(matrix)
    for _ in range(5):
        x = 3.4445 * x - 4.7750 * x @ x.T @ x + 2.0315 * x @ x.T @ x @ x.T @ x
    return x


def test_steps_are_those_of_the_source() -> None:
    rng = np.random.default_rng(0)
    start = rng.normal(size=(27, 6, 8))
    gradients = rng.normal(size=(3, 27, 6, 8))
    weights = nn.Parameter(torch.from_numpy(start.copy()))
    optimiser = Muon([weights], lr=0.01, gain=2.0, momentum=0.9, weight_decay=0.1)
    expected, momentum = start.reshape(162, 8), np.zeros((162, 8))
    for gradient in gradients:
        weights.grad = torch.from_numpy(gradient.copy())
        optimiser.step()
        flat = gradient.reshape(162, 8)
        momentum = 0.9 * momentum + flat
        expected = expected * (1 - 0.02 * 0.1)
        expected = expected - 0.02 * 0.2 * np.sqrt(162) * polynomial(flat + 0.9 * momentum)
    np.testing.assert_allclose(weights.detach().numpy().reshape(162, 8), expected, atol=1e-10)


def test_kernels_whose_outputs_come_first_move_alike() -> None:
    rng = np.random.default_rng(0)
    kernel = torch.from_numpy(rng.normal(size=(8, 6, 3, 3)))
    first = nn.Parameter(kernel.clone(memory_format=torch.channels_last))
    last = nn.Parameter(kernel.permute(2, 3, 1, 0).contiguous())
    of_first = Muon([first], lr=0.01, weight_decay=0.1, outputs=0)
    of_last = Muon([last], lr=0.01, weight_decay=0.1)
    for _ in range(2):
        gradient = torch.from_numpy(rng.normal(size=(8, 6, 3, 3)))
        first.grad, last.grad = gradient, gradient.permute(2, 3, 1, 0)
        of_first.step()
        of_last.step()
    assert float((first.detach() - kernel).abs().min()) > 0
    torch.testing.assert_close(first.detach().permute(2, 3, 1, 0), last.detach())


def test_a_state_of_before_outputs_could_come_first() -> None:
    weights = nn.Parameter(torch.ones(2, 3))
    state = Muon([weights]).state_dict()
    del state["param_groups"][0]["outputs"]
    optimiser = Muon([weights])
    optimiser.load_state_dict(state)
    weights.grad = torch.ones(2, 3)
    optimiser.step()
    assert float(weights.detach().max()) < 1


def small_network() -> MinkUNet:
    torch.manual_seed(0)
    return MinkUNet(MinkUNetConfig(3, 8, 4, (4,) * 8, (1,) * 8))


def learn(network: MinkUNet, optimiser: Optimiser, steps: int) -> float:
    rng = np.random.default_rng(0)
    cells = np.unique(rng.integers(0, 12, (300, 3)), axis=0)
    coordinates = torch.from_numpy(np.pad(cells, ((0, 0), (1, 0)))).int()
    inputs = torch.from_numpy(rng.normal(size=(len(cells), 3))).float()
    labels = torch.from_numpy(cells[:, 2] // 4)
    loss = torch.zeros(())
    for _ in range(steps):
        network.zero_grad()
        manager = CoordinateManager(coordinates)
        said = network(SparseTensor(inputs, manager)).features
        loss = nn.functional.cross_entropy(said, labels)
        loss.backward()
        optimiser.step(5e-3)
    return float(loss.detach())


@pytest.mark.parametrize("kind", OPTIMISERS)
def test_every_optimiser_learns_and_goes_on(kind: str) -> None:
    network = small_network()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    optimiser = student_optimiser(kind, network, 0.0)
    first = learn(network, optimiser, 1)
    changed = {
        name for name, value in network.named_parameters() if not torch.equal(value, before[name])
    }
    assert changed == {name for name, _ in network.named_parameters()}
    state = copy.deepcopy(optimiser.state())  # a checkpoint is a copy
    again = small_network()
    again.load_state_dict(network.state_dict())
    other = student_optimiser(kind, again, 0.0)
    other.load(state)
    assert learn(network, optimiser, 20) == learn(again, other, 20) < 0.7 * first
    for a, b in zip(network.parameters(), again.parameters(), strict=True):
        assert torch.equal(a, b)


def test_muon_is_for_what_maps_features_to_features() -> None:
    """Adam's first step moves every number by the rate; Muon's is as long in all directions."""
    network = small_network()
    before = {name: value.clone() for name, value in network.named_parameters()}
    learn(network, student_optimiser("muon", network, 0.0), 1)
    for name, value in network.named_parameters():
        if name.startswith(("conv0", "block1", "block8", "final")) and value.ndim > 1:
            moved = (value - before[name]).detach().flatten(0, -2)
            inner = name not in ("conv0p1s1.kernel", "final.kernel")
            if not inner:
                assert float(moved.abs().median()) == pytest.approx(5e-3, rel=1e-3), name
            else:
                step = 0.2 * max(moved.shape) ** 0.5 * 2 * 5e-3
                lengths = torch.linalg.svdvals(moved) / step
                assert 0.6 < lengths.min() and lengths.max() < 1.3, name


def test_a_state_of_one_optimiser_as_it_was_kept_once() -> None:
    network = small_network()
    optimiser = student_optimiser("adam", network, 0.0)
    learn(network, optimiser, 2)
    other = student_optimiser("adam", network, 0.0)
    other.load(optimiser.state()[0])
    assert other.state()[0]["state"][0]["step"] == 2


@pytest.mark.parametrize("lost", ["final.kernel", "block1.0.conv1.kernel"])
def test_a_scaler_moves_all_weights_or_none(lost: str) -> None:
    network = small_network()
    optimiser = student_optimiser("muon", network, 0.0)
    scaler = torch.amp.GradScaler("cpu", init_scale=8.0)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    for weights in network.parameters():
        weights.grad = torch.full_like(weights, 8.0)
    gradient = network.get_parameter(lost).grad
    assert gradient is not None
    gradient.view(-1)[0] = torch.inf
    scaler.scale(torch.ones(()))
    optimiser.unscale(scaler)
    optimiser.step(5e-3, scaler)
    scaler.update()
    assert scaler.get_scale() == 4.0
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    for weights in network.parameters():
        weights.grad = torch.full_like(weights, 4.0)
    optimiser.unscale(scaler)
    assert all(float(weights.grad.max()) == 1.0 for weights in network.parameters())
    optimiser.step(5e-3, scaler)
    moved = [not torch.equal(value, before[name]) for name, value in network.named_parameters()]
    assert all(moved)
