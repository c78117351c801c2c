"""Teachers and captioners that are programs: anything in an environment of its own can take part.

A program is called as `PROGRAM --describe`, and prints what it is, and as `PROGRAM REQUEST ANSWER`
with two folders. REQUEST holds `request.json` and the images as PNG; ANSWER is empty and gets one
`NAME.masks.json` with its PNG files per image (docs/formats.md). `reference_plugin.py` is a program
to start from.
"""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sas_ros.errors import SasError
from sas_ros.pictures import write_png
from sas_training.teachers.mask_files import SUFFIX, MaskFile
from sas_training.teachers.registry import TeacherOptions, weights_hash
from sas_training.teachers.teacher import Description, Image, LabelledMask

FORMAT_VERSION = 1
KIND = "sas_teacher_program"
REQUEST_KIND = "sas_teacher_request"
TASKS = ("segment", "caption")
IMAGES_A_CALL = 64
"""A program loads its model at every call."""


@dataclass(frozen=True)
class ProgramSettings:
    """Settings: `timeout` in seconds for one call, 0 for none."""

    timeout: float = 0.0


@dataclass(frozen=True)
class Program:
    """A program that has said what it is.

    Attributes:
        command: its command line.
        name, model, licence: what it says of itself.
        tasks: which of `TASKS` it can do.
        timeout: seconds for one call, 0 for none.
    """

    command: tuple[str, ...]
    name: str
    model: str
    licence: str
    tasks: tuple[str, ...]
    timeout: float = 0.0

    @staticmethod
    def ask(command: Sequence[str], timeout: float = 0.0) -> Program:
        """Have it describe itself.

        Raises:
            SasError: no command, no such program, it fails, or prints something else.
        """
        if not command:
            raise SasError(
                "A program is needed; give its command line, such as "
                '"/opt/seem/bin/python seem_plugin.py".'
            )
        text = _run([*command, "--describe"], timeout)
        try:
            content = json.loads(text)
        except ValueError:
            content = None
        shown = shlex.join(command)
        if not isinstance(content, dict) or content.get("kind") != KIND:
            raise SasError(f'{shown} --describe must print a JSON object of the kind "{KIND}".')
        if content.get("format_version") != FORMAT_VERSION:
            raise SasError(
                f"{shown} speaks version {content.get('format_version')!r} of the protocol; "
                f"this version speaks {FORMAT_VERSION}."
            )
        name, model, licence = (content.get(key) for key in ("name", "model", "licence"))
        tasks = content.get("tasks")
        if not all(isinstance(one, str) and one for one in (name, model, licence)):
            raise SasError(f"{shown} --describe lacks one of the texts name, model and licence.")
        if not isinstance(tasks, list) or not tasks or not set(tasks) <= set(TASKS):
            raise SasError(f"{shown} --describe must list its tasks: {' or '.join(TASKS)}.")
        return Program(tuple(command), str(name), str(model), str(licence), tuple(tasks), timeout)

    def description(self, labels: Sequence[str] = ()) -> Description:
        """What it said, with its command line, the content of the files in that (`sha256:...` of
        each word that is one), and the words it is given.

        Raises:
            SasError: such a file cannot be read.
        """
        settings: dict[str, Any] = {"command": list(self.command), "licence": self.licence}
        try:
            # Answers are kept by these settings: an edited script is another teacher.
            settings["files"] = {
                word: weights_hash([Path(word)]) for word in self.command if Path(word).is_file()
            }
        except OSError as error:
            raise SasError(
                f"A file of the program {self.name!r} cannot be read: {error}."
            ) from None
        if labels:
            settings["labels"] = list(labels)
        return Description(self.name, self.model, settings)

    def answer(
        self,
        task: str,
        images: Sequence[Image],
        masks: Sequence[Sequence[LabelledMask]] | None = None,
        labels: Sequence[str] = (),
    ) -> list[MaskFile]:
        """Have it look at images, and for the task "caption" at their masks.

        Raises:
            SasError: it cannot do that, fails, takes too long, or leaves something wrong behind.
        """
        if task not in self.tasks:
            raise SasError(f"The program {self.name!r} cannot {task}; it can {self.tasks[0]}.")
        with tempfile.TemporaryDirectory(prefix="sas-program-") as folder:
            request, answer = Path(folder) / "request", Path(folder) / "answer"
            answer.mkdir()
            names = [f"{number:06d}" for number in range(len(images))]
            _write_request(request, task, names, images, masks, labels)
            _run([*self.command, str(request), str(answer)], self.timeout)
            found = []
            for name, image in zip(names, images, strict=True):
                path = answer / (name + SUFFIX)
                if not path.is_file():
                    raise SasError(f"The program {self.name!r} wrote no {path.name}.")
                try:
                    kept = MaskFile.load(path)
                except SasError as error:
                    raise SasError(
                        f"The program {self.name!r} wrote a wrong file. {error}"
                    ) from None
                if (kept.height, kept.width) != image.shape[:2]:
                    raise SasError(
                        f"The program {self.name!r} says that an image of {image.shape[1]} x "
                        f"{image.shape[0]} pixels is {kept.width} x {kept.height}."
                    )
                found.append(kept)
            return found


class ProgramTeacher:
    """A program as a `MaskTeacher`."""

    images_a_call = IMAGES_A_CALL

    def __init__(self, program: Program, labels: Sequence[str] = ()) -> None:
        self._program, self._labels = program, tuple(labels)
        self.description = program.description(labels)

    def masks(self, images: Sequence[Image]) -> list[tuple[LabelledMask, ...]]:
        """What it answers; one call of the program for all images."""
        found = self._program.answer("segment", images, labels=self._labels)
        return [one.masks for one in found]


class ProgramCaptioner:
    """A program as a `Captioner`."""

    images_a_call = IMAGES_A_CALL

    def __init__(self, command: Sequence[str], timeout: float = 0.0) -> None:
        self._program = Program.ask(command, timeout)
        self.description = self._program.description()

    def captions(
        self, images: Sequence[Image], masks: Sequence[Sequence[LabelledMask]]
    ) -> list[list[str]]:
        """Its captions; raises `SasError` when it changes the number of masks."""
        found = self._program.answer("caption", images, masks)
        for given, kept in zip(masks, found, strict=True):
            if len(given) != len(kept.masks):
                raise SasError(
                    f"The program {self._program.name!r} was given {len(given)} masks to caption "
                    f"and returned {len(kept.masks)}."
                )
        return [[one.caption for one in kept.masks] for kept in found]


def load(options: TeacherOptions) -> ProgramTeacher:
    """The teacher `program` of the registry."""
    settings = options.parsed("program", ProgramSettings())
    return ProgramTeacher(Program.ask(options.program, settings.timeout), options.labels)


def _write_request(
    folder: Path,
    task: str,
    names: Sequence[str],
    images: Sequence[Image],
    masks: Sequence[Sequence[LabelledMask]] | None,
    labels: Sequence[str],
) -> None:
    entries: list[dict[str, Any]] = []
    for number, (name, image) in enumerate(zip(names, images, strict=True)):
        height, width = image.shape[:2]
        entry: dict[str, Any] = {"name": name, "file": f"images/{name}.png"}
        entry |= {"width": width, "height": height}
        write_png(folder / entry["file"], image)
        if masks is not None:
            entry["masks"] = f"masks/{name}{SUFFIX}"
            MaskFile(tuple(masks[number]), height, width).save(folder / entry["masks"])
        entries.append(entry)
    content = {"kind": REQUEST_KIND, "format_version": FORMAT_VERSION, "task": task}
    text = json.dumps({**content, "labels": list(labels), "images": entries}, ensure_ascii=False)
    (folder / "request.json").write_text(text, encoding="utf-8")


def _run(command: Sequence[str], timeout: float) -> str:
    """What the command prints; raises `SasError` when it fails or takes too long."""
    shown = shlex.join(command[:-1] if command[-1] == "--describe" else command[:-2])
    with tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as errors:
        try:
            child = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
                errors="replace",
                env=_environment(),
                start_new_session=True,  # so that what it starts ends with it
            )
        except OSError as error:
            raise SasError(f"The program {shown} cannot be started ({error}).") from error
        try:
            printed, _ = child.communicate(timeout=timeout or None)
        except subprocess.TimeoutExpired:
            raise SasError(f"The program {shown} took longer than {timeout:g} s.") from None
        finally:
            if child.poll() is None:
                os.killpg(child.pid, signal.SIGKILL)
                child.wait()
        if child.returncode != 0:
            errors.seek(0)
            lines = errors.read().strip().splitlines()
            last = f": {lines[-1][:300]}" if lines else "."
            raise SasError(f"The program {shown} ended with code {child.returncode}{last}")
    return printed


def _environment() -> dict[str, str]:
    """Ours without what would lead a Python of another environment to our libraries."""
    ours = ("PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV", "_ROS_WHEELS_BOOTSTRAP_COMPLETE")
    kept = {key: value for key, value in os.environ.items() if key not in ours}
    if "_ROS_WHEELS_BOOTSTRAP_COMPLETE" in os.environ:  # then it was set for our libraries
        kept.pop("LD_LIBRARY_PATH", None)
    return kept
