"""The parameter table, its checks and its documentation."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sas_ros.errors import SasError
from sas_ros.nodes.parameter_table import SPECS, markdown_table
from sas_ros.nodes.parameters import PerceptionParameters, fixed_change, parse_up

DEFAULTS = {spec.name: spec.default for spec in SPECS}


def test_every_parameter_has_a_field_a_description_and_a_legal_default() -> None:
    assert [spec.name for spec in SPECS] == list(dict.fromkeys(spec.name for spec in SPECS))
    assert {spec.name for spec in SPECS} == {f.name for f in fields(PerceptionParameters)}
    assert all(spec.description.endswith(".") for spec in SPECS)
    for spec in SPECS:
        assert spec.choices or isinstance(spec.default, (bool, str, list)) or spec.limits
    values = PerceptionParameters.from_values({})
    assert values.labels == ()
    assert values.up_direction is None


def test_documented_table_is_the_table() -> None:
    page = Path(__file__).resolve().parents[2] / "docs" / "ros_api.md"
    assert markdown_table() in page.read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("values", "word"),
    [
        ({"device": "gpu"}, "auto, cpu, cuda"),
        ({"votes": 3}, "1, 2, 4 or 8"),
        ({"votes": True}, "integer"),
        ({"threads": -1}, "0 to 256"),
        ({"max_age": 3}, "3.0"),
        ({"max_age": float("nan")}, "finite"),
        ({"max_rate": float("inf")}, "finite"),
        ({"labels": ["a", "b", "A "]}, "once"),
        ({"labels": [1]}, "strings"),
        ({"up": "1,2"}, "three numbers"),
        ({"up": "0,0,0"}, "zero"),
        ({"text_encoder": "none", "text_weights": "file"}, "text_weights"),
        ({"student": 5}, "string"),
    ],
)
def test_bad_values_are_refused_with_a_sentence(values: dict[str, object], word: str) -> None:
    with pytest.raises(SasError, match=r"\.$") as caught:
        PerceptionParameters.from_values(values)
    assert word in str(caught.value)
    assert next(iter(values)) in str(caught.value)


@pytest.mark.parametrize(
    ("text", "direction"),
    [("", None), ("0,0,2", (0, 0, 1)), (" 0, -1, 0 ", (0, -1, 0)), ("[3,0,4]", (0.6, 0, 0.8))],
)
def test_up_is_read_as_a_unit_vector(text: str, direction: tuple[float, ...] | None) -> None:
    parsed = parse_up(text)
    if direction is None:
        assert parsed is None
    else:
        assert parsed is not None
        np.testing.assert_allclose(parsed, direction)


@settings(deadline=None, derandomize=True)
@given(st.text(max_size=30))
def test_any_up_text_is_read_or_refused(text: str) -> None:
    try:
        parsed = parse_up(text)
    except SasError:
        return
    assert parsed is None or abs(float(np.linalg.norm(parsed)) - 1.0) < 1e-9


def test_fixed_parameters_change_only_while_unconfigured() -> None:
    change = {"student": "other"}
    assert fixed_change(DEFAULTS, change, configured=False) is None
    reason = fixed_change(DEFAULTS, change, configured=True)
    assert reason is not None and "cleanup" in reason
    assert fixed_change(DEFAULTS, {"student": DEFAULTS["student"]}, configured=True) is None
    assert fixed_change(DEFAULTS, {"max_age": 3.0}, configured=True) is None
    labels = fixed_change(DEFAULTS, {"labels": ["chair"]}, configured=True)
    assert labels is not None and "set_vocabulary" in labels
