"""2D teachers: models that say what is to be seen in images (docs/teachers.md)."""

from sas_training.teachers.cache import FrameCache, image_hash
from sas_training.teachers.registry import TEACHERS, TeacherOptions, load_teacher
from sas_training.teachers.teacher import (
    DenseFeatures,
    Description,
    LabelledMask,
    MaskTeacher,
    PixelTeacher,
)

__all__ = [
    "TEACHERS",
    "DenseFeatures",
    "Description",
    "FrameCache",
    "LabelledMask",
    "MaskTeacher",
    "PixelTeacher",
    "TeacherOptions",
    "image_hash",
    "load_teacher",
]
