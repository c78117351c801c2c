"""Programs as teachers: the protocol, the reference plug-in, and what a program can do wrong."""

from __future__ import annotations

import json
import stat
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from sas_ros.errors import SasError
from sas_training.alignment import CaptionedTeacher
from sas_training.alignment.captioners import load_captioner
from sas_training.fusion.features import PointFeatures
from sas_training.fusion.openscene import write_openscene
from sas_training.teachers import FrameCache, TeacherOptions, load_teacher, reference_plugin
from sas_training.teachers.conformance import check_program, sample_images
from sas_training.teachers.precomputed import PrecomputedPoints, merged
from sas_training.teachers.program import Program, ProgramCaptioner

REFERENCE = (sys.executable, str(Path(reference_plugin.__file__)))


@pytest.fixture
def program(tmp_path: Path) -> Callable[[str], tuple[str, ...]]:
    """Make a program of a shell script: `$1` is --describe or the request, `$2` the answer."""

    def make(script: str, describe: str | None = None) -> tuple[str, ...]:
        about = {"kind": "sas_teacher_program", "format_version": 1, "name": "sh", "model": "1"}
        text = json.dumps({**about, "licence": "MIT", "tasks": ["segment"]})
        path = tmp_path / "program.sh"
        lines = f"if [ \"$1\" = --describe ]; then echo '{describe or text}'; exit; fi\n{script}\n"
        path.write_text("#!/bin/sh\n" + lines)
        path.chmod(path.stat().st_mode | stat.S_IXUSR)
        return (str(path),)

    return make


def answer(masks: str = "[]", width: int = 64, height: int = 40) -> str:
    return (
        f'echo \'{{"kind": "sas_labelled_masks", "format_version": 1, "width": {width}, '
        f'"height": {height}, "masks": {masks}}}\' > $2/000000.masks.json'
    )


def test_the_reference_plugin_keeps_to_the_protocol() -> None:
    lines = check_program(REFERENCE)
    assert lines[0].startswith("describes itself: brightness")
    assert lines[1] == "segments 3 images: [2, 1, 2] masks"
    assert lines[-1] == "captions 9 masks"


def test_a_program_is_a_teacher_and_a_captioner(tmp_path: Path) -> None:
    teacher = load_teacher("program", TeacherOptions(program=REFERENCE, labels=("light",)))
    captioned = CaptionedTeacher(teacher, ProgramCaptioner(REFERENCE))  # type: ignore[arg-type]
    image = sample_images()[2]
    (found,) = FrameCache(tmp_path).masks(captioned, [image])
    assert [(one.label, one.score, one.caption) for one in found] == [
        ("light", 0.5, "a red patch"),
        ("shade", 0.5, "a blue patch"),
    ]
    np.testing.assert_array_equal(found[0].mask, image.mean(axis=2) >= 128)
    assert teacher.description.settings["labels"] == ["light"]
    assert (teacher.description.name, teacher.description.model) == ("brightness", "none")


def test_an_edited_program_is_another_teacher(
    program: Callable[[str], tuple[str, ...]],
) -> None:
    first = Program.ask(program("true")).description()
    assert Program.ask(program("true")).description() == first
    edited = Program.ask(program("false")).description()
    assert edited.settings["command"] == first.settings["command"]
    assert edited.settings["files"] != first.settings["files"]


def test_a_program_gets_images_words_and_masks(
    tmp_path: Path, program: Callable[..., tuple[str, ...]]
) -> None:
    command = program(f"cp -r $1 {tmp_path}/kept; {answer()}")
    Program.ask(command).answer("segment", sample_images()[:1], labels=("étagère",))
    request = json.loads((tmp_path / "kept" / "request.json").read_text())
    assert request == {
        "kind": "sas_teacher_request",
        "format_version": 1,
        "task": "segment",
        "labels": ["étagère"],
        "images": [{"name": "000000", "file": "images/000000.png", "width": 64, "height": 40}],
    }
    from sas_training.teachers.images import read_image

    shown = read_image(tmp_path / "kept" / "images" / "000000.png")
    np.testing.assert_array_equal(shown, sample_images()[0])


@pytest.mark.parametrize(
    ("script", "sentence"),
    [
        ("echo no GPU >&2; exit 3", "ended with code 3: no GPU"),
        ("kill -9 $$", r"ended with code -9\."),
        ("exit 0", "wrote no 000000.masks.json"),
        ("echo '{}' > $2/000000.masks.json", "wrong file.*holds no masks"),
        (answer(width=63), "of 64 x 40 pixels is 63 x 40"),
        (answer('[{"file": "a.png", "value": 1, "label": "x", "score": 2}]'), "no image at"),
        (answer('[{"file": "../../a", "value": 1, "label": "x", "score": 1}]'), "below the JSON"),
    ],
)
def test_what_a_program_does_wrong_is_told(
    program: Callable[[str], tuple[str, ...]], script: str, sentence: str
) -> None:
    with pytest.raises(SasError, match=sentence):
        check_program(program(script))


@pytest.mark.parametrize(
    ("describe", "sentence"),
    [
        ("hello", "must print a JSON object"),
        ("[1]", "must print a JSON object"),
        ('{"kind": "sas_teacher_program", "format_version": 2}', "version 2 of the protocol"),
        ('{"kind": "sas_teacher_program", "format_version": 1, "name": "a"}', "lacks one"),
        (
            '{"kind": "sas_teacher_program", "format_version": 1, "name": "a", "model": "b", '
            '"licence": "c", "tasks": ["fly"]}',
            "must list its tasks",
        ),
    ],
)
def test_a_program_must_say_what_it_is(
    program: Callable[[str, str], tuple[str, ...]], describe: str, sentence: str
) -> None:
    with pytest.raises(SasError, match=sentence):
        Program.ask(program("exit 0", describe))


def test_a_program_that_is_not_there_or_not_given() -> None:
    with pytest.raises(SasError, match="/no/such/plugin --fast cannot be started"):
        load_teacher("program", TeacherOptions(program=("/no/such/plugin", "--fast")))
    with pytest.raises(SasError, match="give its command line"):
        load_teacher("program", TeacherOptions())


def test_a_program_that_hangs_is_ended(program: Callable[[str], tuple[str, ...]]) -> None:
    command = program("cat /dev/zero > /dev/null & wait")
    about = Program.ask(command)
    slow = Program(**{**about.__dict__, "timeout": 0.5})
    with pytest.raises(SasError, match=r"took longer than 0\.5 s"):
        slow.answer("segment", sample_images()[:1])


def test_a_captioner_that_hangs_is_ended(tmp_path: Path) -> None:
    (tmp_path / "slow.sh").write_text(
        f'[ "$1" = --describe ] || sleep 60\nexec {sys.executable} {REFERENCE[1]} "$@"\n'
    )
    captioner = load_captioner("program", None, ("/bin/sh", str(tmp_path / "slow.sh")), "cpu", 5.0)
    assert captioner is not None
    with pytest.raises(SasError, match=r"took longer than 5 s"):
        captioner.captions(sample_images()[:1], [()])


def test_a_program_cannot_be_asked_for_what_it_cannot(
    program: Callable[[str], tuple[str, ...]],
) -> None:
    with pytest.raises(SasError, match="'sh' cannot caption; it can segment"):
        Program.ask(program("exit 0")).answer("caption", sample_images()[:1], [()])


def test_a_program_that_answers_by_chance_is_found(tmp_path: Path) -> None:
    text = Path(reference_plugin.__file__).read_text()
    changed = text.replace("yield mask, label, 0.5", "yield mask, label, np.random.rand()")
    assert changed != text
    (tmp_path / "plugin.py").write_text(changed)
    with pytest.raises(SasError, match="answers otherwise when it is asked again"):
        check_program((sys.executable, str(tmp_path / "plugin.py")))


# Precomputed features of points


def points_of(mask: list[int], first: float, **more: str) -> PointFeatures:
    seen = np.array(mask, bool)
    rows = np.arange(2 * seen.sum()).reshape(-1, 2) + first
    return PointFeatures(rows.astype(np.float16), seen, more.get("teacher", "lseg"), "room")


def test_published_features_are_found_by_scene(tmp_path: Path) -> None:
    whole = points_of([1, 0, 1], 0)
    write_openscene(whole, tmp_path / "room_0.pt")
    write_openscene(points_of([1, 1, 1], 9), tmp_path / "room_00_0.pt")  # another scene
    found = PrecomputedPoints(tmp_path, "seem", 2).features("room", 3)
    np.testing.assert_array_equal(found.features, whole.features)
    np.testing.assert_array_equal(found.mask, whole.mask)
    assert found.teacher == "seem"
    points_of([1, 1, 1], 5, teacher="own").save(tmp_path / "room.safetensors")
    assert PrecomputedPoints(tmp_path, "seem").features("room").teacher == "own"


def test_they_are_no_teacher_that_can_be_asked() -> None:
    with pytest.raises(SasError, match="belong to scenes"):
        load_teacher("precomputed", TeacherOptions())


def test_parts_of_a_scene_become_one(tmp_path: Path) -> None:
    for number, part in enumerate([points_of([1, 0, 1, 0], 0), points_of([0, 1, 1, 0], 10)]):
        write_openscene(part, tmp_path / f"room_{number}.pt")
    found = PrecomputedPoints(tmp_path, "lseg").features("room")
    assert found.mask.tolist() == [True, True, True, False]
    assert found.features.tolist() == [[0, 1], [10, 11], [2, 3]]  # the first part's row of point 2
    with pytest.raises(SasError, match="do not belong together"):
        merged([points_of([1, 0], 0), points_of([1, 0, 0], 0)])


def test_features_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    with pytest.raises(SasError, match="no folder of point features"):
        PrecomputedPoints(tmp_path / "none", "lseg")
    write_openscene(points_of([1, 0, 1], 0), tmp_path / "room.pt")
    folder = PrecomputedPoints(tmp_path, "lseg", 512)
    with pytest.raises(SasError, match=r"looked for were hall\.safetensors, hall\.pt and hall_0"):
        folder.features("hall")
    with pytest.raises(SasError, match="for 3 points, but the scene has 4"):
        folder.features("room", 4)
    with pytest.raises(SasError, match="have 2 channels, but 512"):
        folder.features("room")
