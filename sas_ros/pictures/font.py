"""A small stroke font, drawn for this project, so that pictures need no font files.

A glyph is lines through points of a grid: x from 0 to 4, y from 0 (top) over 6 (base line) to 8.
"""

from __future__ import annotations

import itertools
import unicodedata
from functools import cache

import numpy as np
import numpy.typing as npt

_O = "10 30 41 45 36 16 05 01 10"
_S = "41 30 10 01 02 13 33 44 45 36 16 05"
_P = "06 00 30 41 42 33 03"
_BOWL = "43 32 12 03 05 16 36 45"
_GLYPHS = {
    "A": "06 02 20 42 46, 04 44",
    "B": "00 06 36 45 44 33 03, 33 42 41 30 00",
    "C": "41 30 10 01 05 16 36 45",
    "D": "00 06 26 45 41 20 00",
    "E": "40 00 06 46, 03 33",
    "F": "40 00 06, 03 33",
    "G": "41 30 10 01 05 16 36 45 43 23",
    "H": "00 06, 40 46, 03 43",
    "I": "10 30, 20 26, 16 36",
    "J": "20 40, 30 35 26 16 05",
    "K": "00 06, 40 03 46",
    "L": "00 06 46",
    "M": "06 00 23 40 46",
    "N": "06 00 46 40",
    "O": _O,
    "P": _P,
    "Q": f"{_O}, 24 46",
    "R": f"{_P}, 23 46",
    "S": _S,
    "T": "00 40, 20 26",
    "U": "00 05 16 36 45 40",
    "V": "00 26 40",
    "W": "00 16 22 36 40",
    "X": "00 46, 40 06",
    "Y": "00 23 40, 23 26",
    "Z": "00 40 06 46",
    "a": "12 32 43 46, 44 14 05 16 36 45",
    "b": "00 06, 03 12 32 43 45 36 16 05",
    "c": _BOWL,
    "d": f"40 46, {_BOWL}",
    "e": "04 44 43 32 12 03 05 16 36 45",
    "f": "30 20 11 16, 02 22",
    "g": f"{_BOWL}, 42 47 38 18 07",
    "h": "00 06, 03 12 32 43 46",
    "i": "12 16, 10 10",
    "j": "22 27 18 08, 20 20",
    "k": "00 06, 32 04 36",
    "l": "10 15 26",
    "m": "02 06, 03 12 23 26, 23 32 43 46",
    "n": "02 06, 03 12 32 43 46",
    "o": "12 32 43 45 36 16 05 03 12",
    "p": "02 08, 03 12 32 43 45 36 16 05",
    "q": f"42 48, {_BOWL}",
    "r": "02 06, 04 22 32",
    "s": "43 32 12 03 14 34 45 36 16 05",
    "t": "10 15 26 36, 02 32",
    "u": "02 05 16 36 45, 42 46",
    "v": "02 26 42",
    "w": "02 16 23 36 42",
    "x": "02 46, 42 06",
    "y": "02 26, 42 18",
    "z": "02 42 06 46",
    "0": "10 20 31 35 26 16 05 01 10",
    "1": "11 20 26, 16 36",
    "2": "01 10 30 41 42 06 46",
    "3": "00 40 23 33 44 45 36 16 05",
    "4": "36 30 04 44",
    "5": "40 00 02 32 43 45 36 16 05",
    "6": "30 10 01 05 16 36 45 44 33 13 04",
    "7": "00 40 26",
    "8": "13 02 01 10 30 41 42 33 13 04 05 16 36 45 44 33",
    "9": "42 33 13 02 01 10 30 41 45 36 16",
    "!": "20 24, 26 26",
    '"': "10 11, 30 31",
    "#": "10 16, 30 36, 02 42, 04 44",
    "$": f"{_S}, 20 26",
    "%": "40 06, 00 10 11 01 00, 35 45 46 36 35",
    "&": "46 12 11 20 31 32 04 05 16 26 44",
    "'": "20 21",
    "(": "30 22 24 36",
    ")": "10 22 24 16",
    "*": "21 25, 12 34, 32 14",
    "+": "22 26, 04 44",
    ",": "25 26 17",
    "-": "14 34",
    ".": "26 26",
    "/": "40 06",
    ":": "23 23, 26 26",
    ";": "23 23, 25 26 17",
    "<": "32 14 36",
    "=": "03 43, 05 45",
    ">": "12 34 16",
    "?": "01 10 30 41 42 23 24, 26 26",
    "@": "34 24 23 33 34 43 41 30 10 01 05 16 36",
    "[": "30 20 26 36",
    "\\": "00 46",
    "]": "10 20 26 16",
    "^": "12 20 32",
    "_": "07 47",
    "`": "10 21",
    "{": "30 21 22 13 24 25 36",
    "|": "20 27",
    "}": "10 21 22 33 24 25 16",
    "~": "04 13 24 33",
}
_SPACE = 3.0
_GAP = 1.7
_STROKE = 0.48  # half the width of a line, grid units
_MARGIN = 1.0
_HEIGHT = 8.0 + 2 * _MARGIN

Alpha = npt.NDArray[np.float32]


def text_alpha(text: str, height: float) -> Alpha:
    """Draw one line of text as coverage in [0, 1], (rows, columns) float32.

    Args:
        text: accents are dropped; characters that the font lacks become "?".
        height: pixels from the top of capitals to the base line.
    """
    plain = unicodedata.normalize("NFKD", text.replace("ß", "ss"))
    plain = "".join(letter for letter in plain if not unicodedata.combining(letter))
    scale = height / 6.0
    parts = [
        _glyph(letter if letter in _GLYPHS or letter == " " else "?", scale) for letter in plain
    ]
    if not parts:
        return np.zeros((round(_HEIGHT * scale), 1), np.float32)
    return np.concatenate(parts, axis=1)


@cache
def _glyph(letter: str, scale: float) -> Alpha:
    rows = round(_HEIGHT * scale)
    if letter == " ":
        return np.zeros((rows, round(_SPACE * scale)), np.float32)
    lines = [
        [(float(pair[0]), float(pair[1])) for pair in line.split()]
        for line in _GLYPHS[letter].split(",")
    ]
    left = min(x for line in lines for x, _ in line)
    right = max(x for line in lines for x, _ in line)
    columns = round((right - left + _GAP) * scale)
    x = ((np.arange(columns) + 0.5) / scale + left - _GAP / 2)[None, :]
    y = ((np.arange(rows) + 0.5) / scale - _MARGIN)[:, None]
    distance = np.full((rows, columns), np.inf)
    for line in lines:
        for (x0, y0), (x1, y1) in itertools.pairwise(line):
            length = (x1 - x0) ** 2 + (y1 - y0) ** 2
            along = ((x - x0) * (x1 - x0) + (y - y0) * (y1 - y0)) / max(length, 1e-9)
            along = np.clip(along, 0.0, 1.0)
            away = np.hypot(x - x0 - along * (x1 - x0), y - y0 - along * (y1 - y0))
            distance = np.minimum(distance, away)
    alpha = np.clip((_STROKE - distance) * scale + 0.5, 0.0, 1.0)
    return np.asarray(alpha.astype(np.float32))
