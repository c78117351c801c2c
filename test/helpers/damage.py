"""Damaged files and damaged JSON, from a seed."""

from __future__ import annotations

import copy
import random
from collections.abc import Iterator
from typing import Any

JUNK: tuple[Any, ...] = (
    *(None, True, False, 0, -1, 1, 2, 10**6, 10**30, -(10**400), 1e308, -0.5),
    *(float("nan"), float("inf"), "", "x", "{}", "a" * 1000, [], {}, [1], ["a"], {"a": 1}, [[[]]]),
)


def damaged_bytes(whole: bytes, rng: random.Random, head: int = 4096) -> bytes:
    """Cut off, changed, lengthened or repeated somewhere, most often in the first `head` bytes."""
    data = bytearray(whole)
    for _ in range(rng.choice((1, 1, 2, 4))):
        if not data:
            break
        at = rng.randrange(len(data) if rng.random() < 0.3 else min(len(data), head))
        action = rng.randrange(6)
        if action == 0:
            del data[at:]
        elif action == 1:
            data[at] = rng.randrange(256)
        elif action == 2:
            data[at] ^= 1 << rng.randrange(8)
        elif action == 3:
            data[at : at + rng.randrange(1, 9)] = b""
        elif action == 4:
            data[at:at] = rng.choice((b"\0", b"\xff" * 8, b"9", b"-", b"\n", b"1e400 ", b"}"))
        else:
            data[at : at + 8] = rng.randbytes(8)
    return bytes(data)


def damaged_json(value: Any, rng: random.Random) -> Any:
    """A copy with one entry, at any depth, removed, replaced by something else, or added to."""
    result = copy.deepcopy(value)
    path = rng.choice([path for path in _paths(result) if path])
    place = result
    for key in path[:-1]:
        place = place[key]
    action = rng.random()
    if action < 0.2:
        del place[path[-1]]
    elif action < 0.3 and isinstance(place, list):
        place.append(rng.choice(JUNK))
    else:
        place[path[-1]] = rng.choice(JUNK)
    return result


def _paths(value: Any, before: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    yield before
    if isinstance(value, dict):
        for key, item in value.items():
            yield from _paths(item, (*before, key))
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from _paths(item, (*before, index))
