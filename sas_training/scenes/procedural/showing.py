"""Which scans on disk a contact sheet or a comparison is about, and the sheet of them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from sas_training.evaluation.labelled import read_labelled, read_objects
from sas_training.evaluation.scoring import expand

from .frames import read_frame
from .sheet import (
    Picture,
    SheetRow,
    cloud_pictures,
    colors_of,
    depth_colors,
    draw_sheet,
    room_picture,
)

_MOST_FRAMES = 2


def scans_in(paths: Sequence[Path]) -> list[Path]:
    """Labelled scans: files as given, `rooms/` of a generated data set, else a folder's `.npz`.

    Raises:
        SasError: a path that is not there, or a folder without scans.
    """
    return expand([path / "rooms" if (path / "rooms").is_dir() else path for path in paths])


def views_of(scan: Path) -> list[Path]:
    """The single views that were written with the scan of a generated room."""
    return sorted((scan.parent.parent / "views").glob(f"{scan.stem}-view*.npz"))


def frames_of(scan: Path) -> list[Path]:
    """The RGB-D frames that were written with the scan of a generated room."""
    return sorted((scan.parent.parent / "frames").glob(f"{scan.stem}-frame*.npz"))


def rooms_sheet(scans: Sequence[Path], size: tuple[int, int], *, frames: bool = False) -> Picture:
    """A row for each scan: from above, obliquely, obliquely in its own colours where it has any,
    and, with `frames`, what single views show.

    Frames are drawn as colour, depth and labels, at most two of a room; where there are none, the
    points of its single depth views.

    Args:
        scans: labelled `.npz` files.
        size: width and height of one picture, pixels.
        frames: draw the frames or views of generated rooms too.

    Raises:
        SasError: a file is no labelled scan, or there is none.
    """
    rows, labels = [], [np.zeros(0, np.int64)]
    for scan in scans:
        seen = read_objects(scan)
        title = f"{scan.stem}   {len(seen.points)} points"
        row = SheetRow(title, cloud_pictures(seen.points, seen.labels, size))
        if seen.colors is not None:
            row.pictures.append(room_picture(seen.points, seen.colors, size))
        labels.append(np.unique(seen.labels))
        shots = frames_of(scan)[:_MOST_FRAMES] if frames else []
        for shot in shots:
            frame = read_frame(shot)
            row.pictures.extend([frame.color, depth_colors(frame.depth), colors_of(frame.labels)])
            labels.append(np.unique(frame.labels))
        for view in views_of(scan) if frames and not shots else ():
            points, classes = read_labelled(view)
            row.pictures.append(cloud_pictures(points, classes, size)[1])
            labels.append(np.unique(classes))
        rows.append(row)
    return draw_sheet(rows, np.concatenate(labels), size)
