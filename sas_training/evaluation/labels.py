"""Label sets: the class names, ids and colours that points are labelled with."""

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
        prompts: K groups of one or more sentences that name the class to a text encoder.
        nyu40_ids: K ids of the same classes in the NYU40 set; empty for sets of streets.
        ignore_id: id of points that have no class of this set.
    """

    name: str
    names: tuple[str, ...]
    ids: tuple[int, ...]
    colors: tuple[tuple[int, int, int], ...]
    prompts: tuple[tuple[str, ...], ...]
    nyu40_ids: tuple[int, ...] = ()
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


STUFF = frozenset(
    {"wall", "floor", "ceiling", "curtain", "shower curtain", "window"}
    | {"drivable surface", "other flat", "sidewalk", "terrain", "manmade", "vegetation", "building"}
    | {"road", "curb", "traffic island", "traffic median", "grass", "grassland", "lawn", "meadow"}
    | {"turf", "sod", "awning", "woods"}
)
"""Classes that are no countable objects: no instances are made of them."""

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


def _sentence(name: str) -> str:
    return f"a {name} in a scene"


def _indoor(name: str, classes: tuple[tuple[str, int, tuple[int, int, int]], ...]) -> LabelSet:
    return LabelSet(
        name=name,
        names=tuple(word for word, _, _ in classes),
        ids=tuple(range(len(classes))),
        colors=tuple(color for _, _, color in classes),
        # The reference evaluation encodes the left-over class as the bare word "other".
        prompts=tuple(
            ("other",) if word in ("otherfurniture", "other") else (_sentence(word),)
            for word, _, _ in classes
        ),
        nyu40_ids=tuple(nyu40 for _, nyu40, _ in classes),
    )


SCANNET20 = _indoor("scannet20", _SCANNET20)

MATTERPORT21 = _indoor(
    "matterport21",
    (*_SCANNET20[:-1], ("other", 39, (82, 84, 163)), ("ceiling", 22, (58, 98, 26))),
)

# (name, colour, finer names) of the 16 classes of nuScenes lidarseg, in id order. The reference
# evaluation finds the best of all finer names and takes the class it belongs to.
_NUSCENES16: tuple[tuple[str, tuple[int, int, int], tuple[str, ...]], ...] = (
    ("barrier", (220, 220, 0), ("barrier", "barricade")),
    ("bicycle", (119, 11, 32), ("bicycle",)),
    ("bus", (0, 60, 100), ("bus",)),
    ("car", (0, 0, 250), ("car",)),
    (
        "construction vehicle",
        (230, 230, 250),
        ("bulldozer", "excavator", "concrete mixer", "crane", "dump truck"),
    ),
    ("motorcycle", (0, 0, 230), ("motorcycle",)),
    ("person", (220, 20, 60), ("person", "pedestrian")),
    ("traffic cone", (250, 170, 30), ("traffic cone",)),
    (
        "trailer",
        (200, 150, 0),
        ("trailer", "semi trailer", "cargo container", "shipping container", "freight container"),
    ),
    ("truck", (0, 0, 110), ("truck",)),
    ("drivable surface", (128, 64, 128), ("road",)),
    ("other flat", (0, 250, 250), ("curb", "traffic island", "traffic median")),
    ("sidewalk", (244, 35, 232), ("sidewalk",)),
    ("terrain", (152, 251, 152), ("grass", "grassland", "lawn", "meadow", "turf", "sod")),
    ("manmade", (70, 70, 70), ("building", "wall", "pole", "awning")),
    (
        "vegetation",
        (107, 142, 35),
        ("tree", "trunk", "tree trunk", "bush", "shrub", "plant", "flower", "woods"),
    ),
)

NUSCENES16 = LabelSet(
    name="nuscenes16",
    names=tuple(name for name, _, _ in _NUSCENES16),
    ids=tuple(range(len(_NUSCENES16))),
    colors=tuple(color for _, color, _ in _NUSCENES16),
    prompts=tuple(tuple(map(_sentence, finer)) for _, _, finer in _NUSCENES16),
)

_FINER = [(word, color) for _, color, finer in _NUSCENES16 for word in finer]

NUSCENES43 = LabelSet(
    name="nuscenes43",
    names=tuple(word for word, _ in _FINER),
    ids=tuple(range(len(_FINER))),
    colors=tuple(color for _, color in _FINER),
    prompts=tuple((_sentence(word),) for word, _ in _FINER),
)
"""The finer names of `NUSCENES16`, in the colours of their classes. Nothing is annotated with
them, so nothing is scored with them: they are words for a vocabulary."""

LABEL_SETS: dict[str, LabelSet] = {
    labels.name: labels for labels in (SCANNET20, MATTERPORT21, NUSCENES16)
}
"""Label sets that scans are annotated with, by the name given on the command line."""
