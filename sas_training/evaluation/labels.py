"""Label sets: the class names, ids and colours that rooms are labelled with."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class LabelSet:
    """A closed list of classes with contiguous ids 0..K-1.

    Attributes:
        name: short name of the set, as typed on the command line.
        names: K class names; the position is the id.
        ids: K ids, equal to `range(K)`.
        colors: K display colours, RGB 0..255.
        prompts: K sentences that name the class to a text encoder.
        nyu40_ids: K ids of the same classes in the NYU40 set.
        ignore_id: id of points that have no class of this set.
    """

    name: str
    names: tuple[str, ...]
    ids: tuple[int, ...]
    colors: tuple[tuple[int, int, int], ...]
    prompts: tuple[str, ...]
    nyu40_ids: tuple[int, ...]
    ignore_id: int = 255

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


# (name, NYU40 id, colour) of the 20 benchmark classes of ScanNet v2, in id order.
_SCANNET20: tuple[tuple[str, int, tuple[int, int, int]], ...] = (
    ("wall", 1, (174, 199, 232)),
    ("floor", 2, (152, 223, 138)),
    ("cabinet", 3, (31, 119, 180)),
    ("bed", 4, (255, 187, 120)),
    ("chair", 5, (188, 189, 34)),
    ("sofa", 6, (140, 86, 75)),
    ("table", 7, (255, 152, 150)),
    ("door", 8, (214, 39, 40)),
    ("window", 9, (197, 176, 213)),
    ("bookshelf", 10, (148, 103, 189)),
    ("picture", 11, (196, 156, 148)),
    ("counter", 12, (23, 190, 207)),
    ("desk", 14, (247, 182, 210)),
    ("curtain", 16, (219, 219, 141)),
    ("refrigerator", 24, (255, 127, 14)),
    ("shower curtain", 28, (158, 218, 229)),
    ("toilet", 33, (44, 160, 44)),
    ("sink", 34, (112, 128, 144)),
    ("bathtub", 36, (227, 119, 194)),
    ("otherfurniture", 39, (82, 84, 163)),
)

SCANNET20 = LabelSet(
    name="scannet20",
    names=tuple(name for name, _, _ in _SCANNET20),
    ids=tuple(range(len(_SCANNET20))),
    colors=tuple(color for _, _, color in _SCANNET20),
    # The reference evaluation encodes the last class as the bare word "other".
    prompts=tuple(
        "other" if name == "otherfurniture" else f"a {name} in a scene" for name, _, _ in _SCANNET20
    ),
    nyu40_ids=tuple(nyu40 for _, nyu40, _ in _SCANNET20),
)

LABEL_SETS: dict[str, LabelSet] = {SCANNET20.name: SCANNET20}
"""Label sets by the name given on the command line."""
