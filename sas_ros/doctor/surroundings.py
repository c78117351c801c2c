"""Facts about this machine: student, device, interfaces, shared memory, ROS environment."""

from __future__ import annotations

import os
from collections.abc import Mapping
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

from sas_ros.doctor.facts import Surroundings
from sas_ros.errors import SasError

REQUIRED_FIELDS: Mapping[str, tuple[str, ...]] = {
    "srv.Query.Request": (
        "text", "negatives", "threshold", "max_instances", "max_age", "source", "target_frame",
        "roi_enabled", "roi_pose", "roi_size", "return_cloud", "return_indices", "set_target",
    ),
    "srv.Query.Response": (
        "status", "message", "source", "up", "viewpoint", "best_score", "alternatives",
        "alternative_scores", "instances", "cloud", "label_version", "map_version", "student",
        "age_s", "timing",
    ),
    "srv.SetVocabulary.Request": ("labels",),
    "msg.LabelInfo": ("header", "version", "names", "colors"),
    "msg.InstanceArray": ("header", "instances"),
}  # fmt: skip
"""Fields that the installed interfaces must have, by class below sas_msgs."""


def interfaces_problem() -> str:
    """Why sas_msgs cannot be used, in a sentence; empty when it can."""
    for path, fields in REQUIRED_FIELDS.items():
        kind, *names = path.split(".")
        try:
            found = import_module(f"sas_msgs.{kind}")
            for name in names:
                found = getattr(found, name)
            built = set(found.get_fields_and_field_types())
        except (ImportError, AttributeError) as error:
            return f"{path} is not built ({' '.join(str(error).split())[:160]})."
        missing = [field for field in fields if field not in built]
        if missing:
            return f"{path} was built from older files: it has no {', '.join(missing)}."
    return ""


def look_around(
    *,
    student: str = "",
    device: str = "",
    ros_problem: str = "",
    environment: Mapping[str, str] | None = None,
) -> Surroundings:
    """Gather the facts.

    Args:
        student: value of the node's parameter; empty does not look for one.
        device: the same; only cuda makes PyTorch look for a device.
        ros_problem: why the graph could not be looked at; empty when it could.
        environment: of the process.
    """
    environment = os.environ if environment is None else environment
    problem, needs, encoder = _student(student) if student else ("", ("points",), "")
    return Surroundings(
        ros_problem=ros_problem,
        interfaces_problem=interfaces_problem(),
        student_problem=problem,
        student_needs=needs,
        student_encoder=encoder,
        cuda=_has_cuda() if device == "cuda" else None,
        tf2=find_spec("tf2_ros") is not None,
        shared_memory_free=_free_bytes(Path("/dev/shm")),
        domain=environment.get("ROS_DOMAIN_ID", ""),
        discovery=environment.get("ROS_AUTOMATIC_DISCOVERY_RANGE", ""),
        middleware=environment.get("RMW_IMPLEMENTATION", ""),
    )


def _student(name: str) -> tuple[str, tuple[str, ...], str]:
    from sas_ros.student.bundle import StudentBundle
    from sas_ros.student.locate import find_student

    try:
        bundle = StudentBundle.load(find_student(name))
    except SasError as error:
        return str(error), ("points",), ""
    return "", tuple(bundle.requires), bundle.text_encoder


def _has_cuda() -> bool:
    import torch

    return bool(torch.cuda.is_available())


def _free_bytes(folder: Path) -> int:
    try:
        state = os.statvfs(folder)
    except OSError:
        return 0
    return int(state.f_bavail * state.f_frsize)
