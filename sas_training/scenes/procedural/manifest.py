"""Which world and which seed the rooms of a folder come from."""

from __future__ import annotations

import json
from pathlib import Path

from sas_ros.errors import SasError
from sas_ros.files import atomic_write

WORLD_VERSION = 4
"""Raised whenever the same seed gives other rooms than before, or other scans of them.

1: what the first `indoor-tiny` was trained on. 2: larger and fuller rooms, fewer things on
surfaces, upper walls seen, planes as smooth as fused ones. 3: colours from materials and light,
larger rooms with more beds, sofas, tables and curtains, doors and windows set into their walls,
more soft, bumpy and unlabelled things. 4: rounder edges, more small things around, L tables,
and what a student of 3 mistook (docs/world.md).
"""

_NAME = "world.json"


def manifest_path(out: Path) -> Path:
    """File that says where the rooms under a folder come from."""
    return out / _NAME


def read_manifest(out: Path) -> dict[str, int] | None:
    """`world` (version), `seed` and, where frames are blurred, the longest `blur` in pixels.

    None where nothing has been written.

    Rooms without a manifest are of version 1, of a seed that nobody knows (-1).

    Raises:
        SasError: the file is there but is no such manifest.
    """
    path = manifest_path(out)
    if not path.exists():
        return {"world": 1, "seed": -1} if any((out / "rooms").glob("*.npz")) else None
    try:
        stored = json.loads(path.read_text(encoding="utf-8"))
        known = {"world": int(stored["world"]), "seed": int(stored["seed"])}
        return {**known, "blur": int(stored["blur"])} if "blur" in stored else known
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise SasError(f"{path} does not say which world its rooms are of: {error}.") from error


def claim(out: Path, seed: int, blur: int | None = None) -> None:
    """Say that a folder holds rooms of this world and `seed`.

    `blur` is the longest streak of its frames, pixels; None when no frames are asked for.

    Raises:
        SasError: it holds others already; a mixture could not be made again.
    """
    known, ours = read_manifest(out), {"world": WORLD_VERSION, "seed": seed}
    stored = (known or {}).get("blur", 0)
    taken = any((out / "frames").glob("*.npz"))
    if known is not None and blur is not None and taken and blur != stored:
        raise SasError(
            f"{out} holds frames with streaks of at most {stored} pixels, not {blur}; write to "
            "another folder or give --motion-blur the same number."
        )
    kept = stored if blur is None or taken else blur
    if kept:
        ours["blur"] = kept
    if known is None:
        atomic_write(manifest_path(out), (json.dumps(ours) + "\n").encode())
    elif known["world"] != WORLD_VERSION:
        raise SasError(
            f"{out} holds rooms of version {known['world']} of the world, this is version "
            f"{WORLD_VERSION}; write to another folder."
        )
    elif known["seed"] != seed:
        raise SasError(
            f"{out} holds rooms of seed {known['seed']}, not {seed}; write to another folder."
        )
    elif known != ours:
        atomic_write(manifest_path(out), (json.dumps(ours) + "\n").encode())
