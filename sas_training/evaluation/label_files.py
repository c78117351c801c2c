"""Label sets and their files in config/labels, the one place where classes are written down.

The file format is in docs/formats.md.
"""

from __future__ import annotations

import csv
import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from sas_ros.errors import SasError
from sas_ros.student.locate import student_folders

COLUMNS = ("id", "name", "prompt_names", "color")
SCHEMES = ("nyu40", "nyu_class", "lidarseg")
"""What the last column may be: ids and names of NYU40, names of the column nyuClass of
Matterport3D's category table, ids and names of the categories of nuScenes lidarseg."""

_PROMPT = "a {} in a scene"
_BARE = "="
_COLOR = re.compile(r"#[0-9a-f]{6}")


@dataclass(frozen=True)
class LabelSet:
    """A closed list of classes with contiguous ids 0..K-1.

    Attributes:
        name: short name of the set, as typed on the command line.
        names: K class names; the position is the id.
        ids: K ids, equal to `range(K)`.
        colors: K display colours, RGB 0..255.
        prompts: K groups of one or more sentences that name the class to a text encoder.
        nyu40_ids: K ids of the same classes in the NYU40 set; empty for sets of another scheme.
        ignore_id: id of points that have no class of this set.
        prompt_names: K groups, the words in `prompts`.
        scheme: one of `SCHEMES`, what `categories` and `raw_ids` are; "" where nothing is
            annotated with the set.
        categories: K groups of names that the data set has for the class.
        raw_ids: K groups of numbers that the data set has for the class; empty where it has none.
        ignored: names of the data set's categories that are known to be no class.
        ignored_ids: their numbers.
    """

    name: str
    names: tuple[str, ...]
    ids: tuple[int, ...]
    colors: tuple[tuple[int, int, int], ...]
    prompts: tuple[tuple[str, ...], ...]
    nyu40_ids: tuple[int, ...] = ()
    ignore_id: int = 255
    prompt_names: tuple[tuple[str, ...], ...] = ()
    scheme: str = ""
    categories: tuple[tuple[str, ...], ...] = ()
    raw_ids: tuple[tuple[int, ...], ...] = ()
    ignored: tuple[str, ...] = ()
    ignored_ids: tuple[int, ...] = ()

    def __len__(self) -> int:
        return len(self.names)

    def id_of(self, name: str) -> int:
        """Return the id of a class name; raises KeyError for a name outside the set."""
        try:
            return self.names.index(name)
        except ValueError:
            raise KeyError(f"{name!r} is no class of the label set {self.name!r}") from None

    def from_nyu40(self, nyu40: int) -> int:
        """Return the id of a NYU40 class, `ignore_id` when the set does not have it."""
        return self.nyu40_ids.index(nyu40) if nyu40 in self.nyu40_ids else self.ignore_id

    def from_category(self, category: str) -> int:
        """Return the id of the class that a category of the data set belongs to, by its name as the
        data set spells it; `ignore_id` for any other."""
        for number, names in enumerate(self.categories):
            if category in names:
                return number
        return self.ignore_id

    def raw_table(self) -> npt.NDArray[np.int64]:
        """(256,) class id of each number of the data set's own labels, `ignore_id` for any other.

        Raises:
            SasError: the data set has no such numbers.
        """
        if not any(self.raw_ids):
            raise SasError(
                f"The classes of the label set {self.name!r} have no numbers in the data set; they "
                "go by the names of its category table."
            )
        table = np.full(256, self.ignore_id, dtype=np.int64)
        for number, raw in enumerate(self.raw_ids):
            table[list(raw)] = number
        return table

    def first(self, count: int, name: str) -> LabelSet:
        """The set of the first `count` classes, called `name`; what is left out is ignored."""
        left_out = [category for group in self.categories[count:] for category in group]
        return LabelSet(
            name=name,
            names=self.names[:count],
            ids=self.ids[:count],
            colors=self.colors[:count],
            prompts=self.prompts[:count],
            nyu40_ids=self.nyu40_ids[:count],
            ignore_id=self.ignore_id,
            prompt_names=self.prompt_names[:count],
            scheme=self.scheme,
            categories=self.categories[:count],
            raw_ids=self.raw_ids[:count],
            ignored=(*left_out, *self.ignored),
            ignored_ids=(*(k for raw in self.raw_ids[count:] for k in raw), *self.ignored_ids),
        )


def load_label_set(name: str) -> LabelSet:
    """The label set in config/labels/NAME.csv; raises SasError where there is none."""
    folders = [folder.parent / "labels" for folder in student_folders()]
    for folder in folders:
        path = folder / f"{name}.csv"
        if path.is_file():
            return read_label_set(path)
    raise SasError(
        f"The label set {name!r} is not installed; looked in "
        f"{', '.join(str(folder) for folder in folders)}. Install sas_ros again."
    )


def read_label_set(path: Path) -> LabelSet:
    """The label set of a file, called as the file is.

    Raises:
        SasError: not UTF-8, another header, a line with other than five cells, ids that do not
            count from 0, a name, prompt name or category that is empty or there twice, no colour,
            or no class at all. Names the line.
    """
    path = Path(path)
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise SasError(f"The label set {path} cannot be read as UTF-8 text ({error}).") from error
    rows = [
        (number, next(csv.reader([line])))
        for number, line in enumerate(lines, start=1)
        if line.strip() and not line.startswith("#")
    ]
    if not rows or tuple(rows[0][1][:-1]) != COLUMNS or rows[0][1][-1] not in SCHEMES:
        raise SasError(
            f"The label set {path} must begin with the line {','.join(COLUMNS)} and, after another "
            f"comma, {' or '.join(SCHEMES)}."
        )
    lists = _Lists(scheme=rows[0][1][-1])
    for number, cells in rows[1:]:
        try:
            lists.add(cells)
        except SasError as error:
            raise SasError(f"Line {number} of {path}: {error}") from None
    if not lists.names:
        raise SasError(f"The label set {path} holds no class.")
    return lists.label_set(path.stem)


class _Lists:
    """The lines read so far."""

    def __init__(self, scheme: str) -> None:
        self.scheme = scheme
        self.names: list[str] = []
        self.prompt_names: list[tuple[str, ...]] = []
        self.prompts: list[tuple[str, ...]] = []
        self.colors: list[tuple[int, int, int]] = []
        self.raw: list[list[tuple[int | None, str]]] = []
        self.ignored: list[tuple[int | None, str]] = []
        self._taken: set[tuple[str, str]] = set()

    def add(self, cells: list[str]) -> None:
        if len(cells) != len(COLUMNS) + 1:
            raise SasError(f"there are {len(cells)} cells, not {len(COLUMNS) + 1}.")
        number, name, words, color, raw = (cell.strip() for cell in cells)
        categories = [self._category(part) for part in raw.split(";")]
        if not number and not words and not color:
            self.ignored += categories
            return
        if number != str(len(self.names)):
            raise SasError(f"the id must be {len(self.names)}, not {number!r}: they count from 0.")
        self._once("name", name)
        prompt_names = words.split(";")
        for word in prompt_names:
            self._once("prompt name", word)
        if not _COLOR.fullmatch(color):
            raise SasError(f"a colour is written like #00ff7f, not {color!r}.")
        self.names.append(name)
        self.prompt_names.append(tuple(word.removeprefix(_BARE) for word in prompt_names))
        self.prompts.append(tuple(_sentence(word) for word in prompt_names))
        red, green, blue = bytes.fromhex(color[1:])
        self.colors.append((red, green, blue))
        self.raw.append(categories)

    def _category(self, text: str) -> tuple[int | None, str]:
        """A number and a name, or a name alone where the data set numbers nothing."""
        if self.scheme == "nyu_class":
            self._once("category", text)
            return None, text
        number, _, name = text.partition(" ")
        if not number.isdecimal() or int(number) > 255:
            raise SasError(f"{text!r} must begin with a number from 0 to 255.")
        self._once("number", str(int(number)))
        self._once("category", name)
        return int(number), name

    def _once(self, what: str, text: str) -> None:
        if not text or text != text.strip() or text == _BARE:
            raise SasError(f"the {what} {text!r} is empty or has white space around it.")
        if (what, text.casefold()) in self._taken:
            raise SasError(f"the {what} {text!r} is there twice.")
        self._taken.add((what, text.casefold()))

    def label_set(self, name: str) -> LabelSet:
        numbers = tuple(tuple(k for k, _ in group if k is not None) for group in self.raw)
        if self.scheme == "nyu40" and any(len(group) != 1 for group in numbers):
            raise SasError(f"Each class of the label set {name!r} must be one class of NYU40.")
        return LabelSet(
            name=name,
            names=tuple(self.names),
            ids=tuple(range(len(self.names))),
            colors=tuple(self.colors),
            prompts=tuple(self.prompts),
            nyu40_ids=tuple(k for group in numbers for k in group)
            if self.scheme == "nyu40"
            else (),
            prompt_names=tuple(self.prompt_names),
            scheme=self.scheme,
            categories=tuple(tuple(word for _, word in group) for group in self.raw),
            raw_ids=numbers,
            ignored=tuple(word for _, word in self.ignored),
            ignored_ids=tuple(k for k, _ in self.ignored if k is not None),
        )


def _sentence(word: str) -> str:
    return word.removeprefix(_BARE) if word.startswith(_BARE) else _PROMPT.format(word)
