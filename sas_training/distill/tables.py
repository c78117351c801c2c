"""TOML tables to frozen dataclasses: every key known, every value of the kind its field has."""

from __future__ import annotations

import dataclasses
import sys
import types
import typing
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

from sas_ros.errors import SasError
from sas_ros.student.locate import student_folders

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

Settings = TypeVar("Settings")

_KINDS = {bool: "true or false", int: "a whole number", float: "a number", str: "text"}


def config_folders(name: str) -> list[Path]:
    """Where shipped settings of a kind may lie: beside the code, or where it is installed."""
    return [folder.parent / name for folder in student_folders()]


def read_toml(path: Path) -> dict[str, Any]:
    """The tables of a file; raises SasError when there is none or it is no TOML."""
    try:
        with open(path, "rb") as file:
            return tomllib.load(file)
    except FileNotFoundError:
        raise SasError(f"There is no file {path}.") from None
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise SasError(f"{path} cannot be read as TOML: {error}.") from error


def read_value(text: str) -> Any:
    """A TOML value as typed on a command line; what is no TOML is text."""
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except (tomllib.TOMLDecodeError, KeyError):
        return text


def settings_from(base: Settings, table: Mapping[str, Any], where: str) -> Settings:
    """`base` with the values of `table` in place of its own, nested tables included.

    Args:
        base: a frozen dataclass whose fields are bool, int, float, str, tuples of these, or such
            dataclasses.
        table: values by field name; arrays for tuples.
        where: what the table is called in messages.

    Raises:
        SasError: an unknown key, a value of another kind, or one that the dataclass refuses.
    """
    kinds = typing.get_type_hints(type(base))
    unknown = sorted(set(table) - set(kinds))
    if unknown:
        raise SasError(f"{where} has no key {unknown[0]!r}; known are {', '.join(kinds)}.")
    values: dict[str, Any] = {}
    for key, value in table.items():
        current = getattr(base, key)
        if dataclasses.is_dataclass(current) and not isinstance(current, type):
            if not isinstance(value, Mapping):
                raise SasError(f"{where}: {key} must be a table, not {value!r}.")
            values[key] = settings_from(current, value, f"{where}, table {key}")
        else:
            values[key] = _of_kind(kinds[key], value, f"{where}: {key}")
    replaced: Any = dataclasses.replace
    try:
        result: Settings = replaced(base, **values)
        return result
    except SasError as error:
        raise SasError(f"{where}: {error}") from error


def _of_kind(kind: Any, value: Any, what: str) -> Any:
    if isinstance(kind, types.GenericAlias):  # tuple[X, ...] or tuple[X, Y]
        members = typing.get_args(kind)
        if not isinstance(value, list):
            raise SasError(f"{what} must be a list in brackets, not {value!r}.")
        if members[-1] is Ellipsis:
            members = (members[0],) * len(value)
        if len(members) != len(value):
            raise SasError(f"{what} must have {len(members)} values, not {len(value)}.")
        return tuple(_of_kind(m, v, what) for m, v in zip(members, value, strict=True))
    if kind is float and type(value) is int:
        value = float(value)
    if type(value) is not kind:
        raise SasError(f"{what} must be {_KINDS[kind]}, not {value!r}.")
    return value
