"""Imported by processes that die while they measure capabilities or train priors (`killed.lives`).

What takes long to compile is compiled here, and sheets and held-out figures, which the tests do not
look at, become small. torch computes nothing, so that forking is safe.
"""

from __future__ import annotations

from sas_training.experiment.single_objects import object_picture
from sas_training.priors import held_out, sheets
from sas_training.priors.pictures import room_frames

held_out.PER_CLASS = held_out.ROOMS = sheets.STEPS = 1
object_picture("bed", (0,))
room_frames(0, 1, 0)
