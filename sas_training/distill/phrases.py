"""Phrases with known meaning: they calibrate a student and go into its bundle.

The list that students are measured with, config/queries/scannet20.csv, has none of them except for
class names and the synonyms that training shows (`sas_training.distill.words`).
"""

from __future__ import annotations

from collections.abc import Sequence

from sas_ros.language.encoder import TextEncoder
from sas_ros.language.phrases import Phrases
from sas_ros.language.prompts import apply_prompt, text_key
from sas_ros.language.vocabulary import Vocabulary
from sas_training.distill.words import SYNONYMS

_SEATS = ("chair", "sofa")
_SURFACES = ("table", "desk", "counter")
_STORAGE = ("cabinet", "bookshelf")
_BATHROOM = ("toilet", "sink", "bathtub")
_ALL_FURNITURE = (
    "cabinet", "bed", "chair", "sofa", "table", "bookshelf", "counter", "desk", "otherfurniture",
)  # fmt: skip

MEANT: dict[tuple[str, ...], tuple[str, ...]] = {
    ("wall",): ("wallpaper", "partition", "plaster wall", "side of the room", "painted wall"),
    ("floor",): (
        "carpet", "rug", "tiles on the floor", "wooden floor", "what I stand on",
        "surface to walk over", "where the robot drives", "linoleum", "laminate",
    ),
    ("cabinet",): (
        "kitchen cabinet", "closet", "locker", "linen cupboard", "commode with drawers",
        "storage cabinet", "place to put clothes away", "where the plates are kept",
        "cabinets in the kitchen", "chest", "tv cabinet", "drawers", "vanity unit",
    ),
    ("bed",): (
        "sleeping place", "something to sleep on", "place to lie down at night", "bedding",
        "queen size bed", "child's bed", "where one sleeps", "foot of the bed", "cot", "daybed",
        "bedroom furniture", "where to take a nap",
    ),
    ("chair",): (
        "wooden chair", "the red chair", "plastic chair", "a chair to work on", "kitchen stool",
        "high chair", "four chairs", "wheelchair",
        "garden chair", "chair on wheels",
    ),
    ("sofa",): (
        "three-seater", "divan", "futon", "couch to lie on", "where to watch television from",
        "living room seating", "seat for three people", "chesterfield",
    ),
    _SEATS: (
        "something to sit on", "seating", "place to sit down", "where can I sit", "sit here",
        "a seat for a guest", "things to sit on", "seating area",
        "a place to rest", "cushioned seat",
    ),
    ("table",): (
        "kitchen dining table", "small table", "end table", "meeting table", "wooden table",
        "where we have breakfast", "place to eat", "eating table", "tea table",
        "glass table", "set of tables", "bistro table", "ping pong table",
    ),
    ("desk",): (
        "computer desk", "study desk", "workplace", "where to write a letter", "reception desk",
        "office workstation", "student's desk", "place for a computer", "standing desk",
    ),
    ("table", "desk"): (
        "something to put a cup on", "where to put a computer", "place to do paperwork",
        "tabletop surface", "place to study", "where to write",
    ),
    _SURFACES: ("work surface", "flat surface", "surface to put things on", "horizontal surface"),
    ("counter",): (
        "kitchen worktop", "counter top", "breakfast bar", "bench to cut vegetables on",
        "shop counter", "kitchen island", "where meals are prepared",
    ),
    ("door",): (
        "front door", "exit", "entrance", "door leaf",
        "gate to the next room",
        "where people come in", "double door",
    ),
    ("window",): (
        "window with a view", "skylight",
        "double glazing", "windowpane",
    ),
    ("bookshelf",): (
        "place for books", "shelf with books", "library shelf", "book rack", "shelving",
        "where books stand", "shelving unit", "books on a shelf", "book case",
    ),
    _STORAGE: (
        "storage", "place to store things", "where to put things away", "storage space",

    ),
    ("picture",): (
        "photo", "photograph on the wall", "wall art", "art print", "drawing in a frame",
        "framed picture", "work of art", "watercolour",

    ),
    ("curtain",): (
        "window curtains", "window blind",
        "what keeps the light out", "net curtain",
    ),
    ("refrigerator",): (
        "fridge freezer", "refrigerator door", "where to cool drinks", "place to keep food fresh",
        "cooling appliance", "large kitchen appliance",
    ),
    ("shower curtain",): (
        "curtain of the shower", "plastic curtain in the bathroom", "curtain around the bathtub",
        "what stops water splashing from the shower",
    ),
    ("toilet",): (
        "loo", "water closet", "toilet lid", "flush toilet", "I need the toilet", "restroom toilet",
        "where to pee",
    ),
    ("sink",): (
        "basin", "hand basin", "water tap", "tap", "where to wash hands", "place to do the dishes",
        "stainless steel sink",
    ),
    ("bathtub",): (
        "bathing tub", "jacuzzi", "where to bathe", "hot tub",
    ),
    _BATHROOM: ("bathroom ceramics", "bathroom fittings", "sanitary fixtures"),
    _ALL_FURNITURE: (
        "household furniture", "all the furniture", "furniture in the room",
        "any furniture",
    ),
}  # fmt: skip
"""Words of the vocabulary -> what people say for them, or for all of them together."""

ABSENT = (
    "car", "truck", "lorry", "van", "bicycle", "scooter", "tram", "airplane", "rocket",
    "submarine", "ship", "canoe", "traffic light", "road", "crossroads", "railway", "pavement",
    "tree", "grass", "flower garden", "mountain", "river", "ocean", "beach", "volcano", "cloud",
    "sun", "snow", "rain", "cave", "island", "field of wheat", "rock", "mud",
    "dog", "cat", "horse", "lion", "bird", "fish", "snake", "spider", "dinosaur", "sheep", "bear",
    "mouse in a hole", "crocodile", "insect",
    "person", "man", "woman", "child", "crowd", "soldier", "doctor", "footballer", "face", "hand",
    "banana", "pizza", "bread", "cheese", "soup", "cake", "carrot", "beer", "egg", "rice",
    "guitar", "trumpet", "saxophone", "telephone", "camera", "satellite", "telescope", "microscope",
    "hammer", "knife", "screwdriver", "power drill", "ladder", "fire extinguisher", "rope", "gun",
    "cannon", "anchor", "wheel", "engine", "crane", "bulldozer", "concrete mixer", "windmill",
    "escalator", "factory", "castle", "house", "pyramid", "stadium", "airport", "cemetery",
    "tunnel", "tower", "fence", "statue", "fountain", "barn",
    "happiness", "mathematics", "justice", "love", "music", "politics", "yesterday", "time",
    "blue", "green", "large", "hello", "thank you", "what is your name", "seventeen", "qwertyuiop",
    "nothing", "weather", "noise",
    "staircase", "step", "lift", "chimney", "ceiling", "column",
    "table lamp", "floor lamp", "light bulb", "chandelier", "light switch", "power socket",
    "TV", "flat screen", "loudspeaker", "game console", "laptop", "computer", "computer mouse",
    "printer", "projector", "router", "cable",
    "cushion", "quilt", "bath towel", "hairdryer", "soap", "toothbrush",
    "tissue box", "shampoo bottle",
    "clock", "mirror", "lamp", "television", "book", "pillow",
    "vase", "candle", "potted plant", "bonsai", "flower",
    "waste bin", "bucket", "broom", "iron", "clothes hanger", "hamper", "shopping bag", "backpack",
    "nightstand", "dresser", "chest of drawers",
    "trolley", "umbrella", "shoe", "jacket", "hat", "toy", "teddy bear", "ball", "doll",
    "box", "parcel", "newspaper", "magazine", "paper", "pen", "bottle", "coffee mug", "plate",
    "cooking pot", "washing machine", "microwave", "oven", "stove", "toaster", "coffee machine",
    "heater", "air conditioner", "electric fan", "treadmill", "organ", "exercise bike",
    "ironing board", "cat litter box", "bird cage",
)  # fmt: skip
"""What no class is: the world outside, abstract words, and things of rooms without a class."""


def calibration_phrases() -> Sequence[tuple[str, tuple[str, ...]]]:
    """(phrase, class names it means) to calibrate query scores with; no name means absent."""
    named = [(name, (name,)) for name in SYNONYMS if name != "otherfurniture"]
    taught = [(text, (name,)) for name, texts in SYNONYMS.items() for text in texts]
    meant = [(text, classes) for classes, texts in MEANT.items() for text in texts]
    return [*named, *taught, *meant, *((text, ()) for text in ABSENT)]


def known_phrases(
    vocabulary: Vocabulary, encoder: TextEncoder, prompt: str
) -> tuple[Phrases, Phrases]:
    """The phrases to calibrate `vocabulary` with, and those of them that are not its words.

    The second belong into its bundle. Phrases that mean a class which it lacks are left out.
    """
    index = {text_key(name): number for number, name in enumerate(vocabulary.names)}
    usable = [
        (text, frozenset(index[text_key(name)] for name in classes))
        for text, classes in calibration_phrases()
        if all(text_key(name) in index for name in classes)
    ]
    texts = tuple(text for text, _ in usable)
    rows = encoder.encode([apply_prompt(prompt, text) for text in texts])
    phrases = Phrases(texts, rows, tuple(meant for _, meant in usable))
    new = [k for k, text in enumerate(texts) if text_key(text) not in index]
    return phrases, Phrases(
        tuple(texts[k] for k in new), rows[new], tuple(phrases.meant[k] for k in new)
    )
