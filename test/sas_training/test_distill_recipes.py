"""Recipes of distillation: those that come along, and mistakes in others."""

from __future__ import annotations

from pathlib import Path

import pytest

from sas_ros.errors import SasError
from sas_training.distill.optimisation import learning_rate
from sas_training.distill.recipes import ScheduleSettings, find_recipe, load_recipe
from sas_training.distill.self_distillation import variant

ROOT = Path(__file__).resolve().parents[2]
NAMES = sorted(path.stem for path in (ROOT / "config" / "distill").glob("*.toml"))


def test_recipes_come_along() -> None:
    assert {"scannet", "matterport", "nuscenes", "procedural-small", "procedural-full"} <= {*NAMES}


@pytest.mark.parametrize("name", NAMES)
def test_recipes_are_read_and_build_a_network(name: str) -> None:
    recipe = load_recipe(name)
    assert recipe.description and recipe.self_distillation.used
    config = recipe.network.config(64)
    assert (config.in_channels, config.out_channels) == (len(recipe.network.inputs), 64)
    assert recipe.to_dict()["schedule"]["epochs"] == recipe.schedule.epochs


def test_the_papers_settings() -> None:
    """Method reference 6.6 and 6.7."""
    recipe = load_recipe("scannet")
    schedule, stage = recipe.schedule, recipe.self_distillation
    assert (schedule.epochs, schedule.batch, schedule.repeats) == (100, 12, 1)
    assert (schedule.learning_rate, schedule.final_learning_rate) == (1e-4, 1e-5)
    assert stage.start_epoch == 70 and stage.keep_stage_one and stage.point_labels == "own"
    assert recipe.objective.targets == "superpoint" and recipe.objective.distance == "cosine"
    assert recipe.samples.voxel_size == 0.02 and recipe.network.family == "minkunet18a"
    street = load_recipe("nuscenes")
    assert street.schedule.batch == 8 and street.samples.voxel_size == 0.05
    assert street.augment.elastic == street.augment.flip == 0
    released = load_recipe("scannet-released")
    assert released.self_distillation == variant("released")
    assert released.objective.max_voxels == 20_000 and released.schedule.repeats == 5


def test_values_are_changed_on_the_way(tmp_path: Path) -> None:
    changes = ["schedule.epochs=7", "self_distillation.variant=none", "samples.crop=[1, 2.5]"]
    recipe = load_recipe("scannet", [*changes, "network.norms='frozen'", "schedule.clip=2"])
    assert recipe.schedule.epochs == 7 and not recipe.self_distillation.used
    assert recipe.samples.crop == (1.0, 2.5) and recipe.network.norms == "frozen"
    assert recipe.schedule.clip == 2.0 and isinstance(recipe.schedule.clip, float)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[schedule]\nepoch = 3", "no key 'epoch'; known are epochs, repeats"),
        ("colour = 1", "no key 'colour'"),
        ("[schedule]\nepochs = 3.5", "epochs must be a whole number, not 3.5"),
        ("[schedule]\nepochs = true", "epochs must be a whole number"),
        ("[schedule]\nlearning_rate = 'fast'", "learning_rate must be a number"),
        ("[schedule]\nbatch = 12\naccumulate = 5", "no 5 equal parts"),
        ("[schedule]\nepochs = 20", "begins after epoch 70"),
        ("[schedule]\nschedule = 'steps'", "'steps' is unknown; known are linear"),
        ("[samples]\ncrop = 3", "a list in brackets"),
        ("[samples]\ncrop = [1]", "must have 2 values"),
        ("[samples]\nvoxel_size = 0", "voxel_size must lie in"),
        ("[network]\ninputs = ['one', 'smell']", "'smell' is unknown"),
        ("[network]\ninputs = []", "at least one channel"),
        ("[augment]\nscale = [1.1, 0.9]", "the smaller first"),
        ("[augment]\nelastic_sizes = [0.2]", "pairs"),
        ("[vocabulary]\nprompt = 'no slot'", "exactly one"),
        ("[self_distillation]\nvariant = 'mine'", "'mine' is unknown; known are paper, released"),
        ("[self_distillation]\nalpha = 1.0", "alpha"),
        ("[self_distillation]\nviews = 'mine'", "views 'mine' is unknown; use whole or training"),
        ("[self_distillation]\nhistory_every = 0", "1 epoch or more"),
        ("[self_distillation]\ninitialise = true", "what a student says in training"),
        ("[self_distillation]\nhistory_epoch = 90", "epoch 0 to 70"),
        ("schedule = 3", "schedule must be a table"),
        ("self_distillation = 3", "self_distillation must be a table"),
        ("[schedule\n", "cannot be read as TOML"),
    ],
)
def test_mistakes_are_sentences(text: str, words: str, tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(text)
    with pytest.raises(SasError, match=words) as caught:
        load_recipe(str(path))
    assert str(path) in str(caught.value)


def test_recipes_that_are_not_there_are_sentences(tmp_path: Path) -> None:
    with pytest.raises(SasError, match="found: matterport"):
        find_recipe("kitchen")
    with pytest.raises(SasError, match=r"no recipe at .*gone\.toml"):
        find_recipe(str(tmp_path / "gone.toml"))
    with pytest.raises(SasError, match=r"table\.key=value"):
        load_recipe("scannet", ["schedule.epochs"])
    with pytest.raises(SasError, match="seed is no table"):
        load_recipe("scannet", ["seed.x=1"])


def test_learning_rates() -> None:
    linear = ScheduleSettings(learning_rate=1e-4, final_learning_rate=1e-5)
    assert learning_rate(linear, 0, 100) == pytest.approx(1e-4)
    assert learning_rate(linear, 99, 100) == pytest.approx(1e-5)
    assert learning_rate(linear, 50, 101) == pytest.approx(5.5e-5)
    poly = ScheduleSettings(schedule="poly", learning_rate=1e-3)
    assert learning_rate(poly, 25, 100) == pytest.approx(1e-3 * 0.75**0.9)
    warm = ScheduleSettings(schedule="constant", learning_rate=1e-2, warmup=4)
    assert [learning_rate(warm, k, 9) for k in (0, 3, 8)] == pytest.approx([2.5e-3, 1e-2, 1e-2])


def test_the_page_names_every_key() -> None:
    page = (ROOT / "docs" / "train.md").read_text(encoding="utf-8")
    for table, values in load_recipe("scannet").to_dict().items():
        for key in values if isinstance(values, dict) else [table]:
            named = (f"`{key}`", f".{key}`", f"`{table}.{key}", f"`{key} =", f".{key} =")
            assert table == "description" or any(name in page for name in named), (table, key)
    for name in NAMES:
        assert f"`{name}`" in page
