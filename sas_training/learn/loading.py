"""The teachers of a configuration, loaded."""

from __future__ import annotations

from pathlib import Path

from sas_ros.errors import SasError
from sas_training.alignment.captioners import CaptionedTeacher, load_captioner
from sas_training.learn.settings import TeacherChoice
from sas_training.teachers.registry import load_teacher
from sas_training.teachers.teacher import PixelTeacher, Teacher


def load_choice(choice: TeacherChoice, device: str) -> Teacher:
    """A teacher, with its captioner where it has one.

    Raises:
        SasError: something that either needs is missing, or features were to be captioned.
    """
    teacher = load_teacher(choice.name, choice.options(device))
    weights = Path(choice.captioner_weights) if choice.captioner_weights else None
    captioner = load_captioner(
        choice.captioner, weights, choice.captioner_program, device, choice.captioner_timeout
    )
    if captioner is None:
        return teacher
    if isinstance(teacher, PixelTeacher):
        raise SasError(
            f"The teacher {choice.called} gives features already; a captioner is for teachers of "
            "masks."
        )
    return CaptionedTeacher(teacher, captioner)
