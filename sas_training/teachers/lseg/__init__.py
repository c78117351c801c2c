"""LSeg: language-driven semantic segmentation, as a teacher of dense CLIP features."""

from sas_training.teachers.lseg.network import LsegNetwork, LsegShape
from sas_training.teachers.lseg.teacher import LsegSettings, LsegTeacher, load

__all__ = ["LsegNetwork", "LsegSettings", "LsegShape", "LsegTeacher", "load"]
