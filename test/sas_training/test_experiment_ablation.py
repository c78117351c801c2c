"""The ablation: its settings, its jobs, and the whole of it at the smallest scale, interrupted."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from sas_ros.errors import SasError
from sas_ros.files import atomic_write
from sas_ros.language.available import MINILM, encoder_available
from sas_training.cli import main
from sas_training.distill.distiller import shared_epochs
from sas_training.distill.self_distillation import variant
from sas_training.experiment import making, students
from sas_training.experiment.controls import ABLATION_ROWS, CONTROLS
from sas_training.experiment.files import FEATURES, Files
from sas_training.experiment.making import fused_path
from sas_training.experiment.pipeline import check_space, make_everything
from sas_training.experiment.room_views import superpoints_path
from sas_training.experiment.rows import ROWS_2D
from sas_training.experiment.settings import SCALES, TEACHERS, ExperimentSettings, load_settings
from sas_training.experiment.stages import stages_of
from sas_training.experiment.students import COSINE, ROWS_3D, recipe_of
from sas_training.jobs import Job, Stage, Workers, key_of


# --------------------------------------------------------------------------------------- settings
@pytest.mark.parametrize("scale", SCALES)
def test_settings_of_every_scale_are_read(scale: str) -> None:
    settings = load_settings(scale)
    assert settings.scale == scale
    assert settings.development.world != settings.final.world


@pytest.mark.parametrize("scale", ["small", "full"])
def test_what_is_published_has_rooms_and_repetitions_enough(scale: str) -> None:
    settings = load_settings(scale)
    assert settings.rooms.held_out >= 20
    assert len(settings.final.runs) == 3
    assert {one.kind for one in settings.teachers.by_name.values()} == {"pixels", "masks"}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("tua = 1", "no key 'tua'"),
        ("[rooms]\nheld_out = 0", "held_out must be 1 or more"),
        ('[teachers.objects]\nkind = "pixels"', "of each kind"),
        ('[teachers.surfaces]\nknown = ["tree"]', "'tree' is no class"),
        ('[teachers.surfaces]\nwords = ["a"]', "1 words for 20 known classes"),
        ('[teachers.surfaces]\nnoise = 0.5\nnoisy = ["bed"]', "two classes or more"),
        ("[teachers.surfaces]\nblur = 3", "blur must be 1, 2 or 4"),
        ("[teachers.surfaces]\noptimiser = 'sgd'", "optimiser 'sgd' is unknown"),
        ("[capability]\nmeasure = 'mean'", "macro or micro"),
        ("[final]\nworld = 1", "different seeds"),
        ("[final]\nruns = [1]", "share a seed"),
        ("[development]\nruns = [3, 3]", "each of them once"),
        ('[student.vocabulary]\nprompt = "{}"', "those of the experiment"),
        ("[student.self_distillation]\nvariant = 'none'", "needs self-distillation"),
    ],
)
def test_mistakes_in_settings_are_named(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "own.toml"
    path.write_text(text)
    with pytest.raises(SasError, match=message):
        load_settings(str(path))


def test_a_variant_of_stage_two_brings_its_values(tmp_path: Path) -> None:
    path = tmp_path / "other.toml"
    path.write_text("[student.self_distillation]\nvariant = 'released'\nweight = 0.5")
    stage = load_settings(str(path)).student.self_distillation
    assert stage == replace(variant("released"), weight=0.5)
    path.write_text("[student.self_distillation]\nvariant = 'third'")
    with pytest.raises(SasError, match=r"table student.*'third' is unknown; known are paper"):
        load_settings(str(path))


def test_an_unknown_scale_lists_those_there_are() -> None:
    with pytest.raises(SasError, match="tiny, small, full"):
        load_settings("huge")
    with pytest.raises(SasError, match="use development or final"):
        ExperimentSettings().seeds("test")


def test_each_row_of_a_student_changes_one_thing() -> None:
    base = load_settings("small").student
    recipes = [recipe_of(row, base, 4) for row in ROWS_3D]
    assert [one.objective.targets for one in recipes] == ["pixel", *["superpoint"] * 4]
    assert [one.objective.distance for one in recipes] == [
        "cosine" if row == COSINE else "contrastive" for row in ROWS_3D
    ]
    assert [one.self_distillation.used for one in recipes] == [False] * 3 + [True] * 2
    assert {(one.schedule, one.samples, one.augment, one.seed) for one in recipes} == {
        (base.schedule, base.samples, base.augment, 4)
    }
    with pytest.raises(SasError, match="no row of a student"):
        recipe_of("3d/four", base, 4)


# ------------------------------------------------------------------------------------------- jobs
def test_what_is_there_is_kept_and_said(tmp_path: Path) -> None:
    said: list[str] = []
    jobs = [Job(tmp_path / name, atomic_write, (tmp_path / name, b"new")) for name in "ab"]
    jobs[0].target.write_bytes(b"old")
    with Workers(1, said.append) as workers:
        workers.do("things", jobs)
        workers.do("things", jobs)
    assert [job.target.read_bytes() for job in jobs] == [b"old", b"new"]
    assert said == [
        "things: 1 of 2 are there already and have been kept",
        "things: 1 to make",
        "things: 2 of 2 are there already and have been kept",
    ]
    with pytest.raises(SasError, match="is not there"), Workers(1, said.append) as workers:
        workers.do("things", [Job(tmp_path / "c", atomic_write, (tmp_path / "d", b""))])


def test_a_job_is_done_when_all_of_its_files_are_there(tmp_path: Path) -> None:
    names = [tmp_path / name for name in "abc"]
    touch = Job(names[2], subprocess.run, (["touch", *names],), (), (names[0], names[1]))
    only_a = Job(names[0], subprocess.run, (["touch", names[0]],), (), (names[1],))
    with Workers(1, len) as workers:
        later = Job(tmp_path / "d", atomic_write, (tmp_path / "d", b""), (names[1],))
        workers.do_all([Stage("waits for one of them", [later]), Stage("made", [touch])])
        names[1].unlink()
        assert not touch.done
        workers.do("made again", [touch])
        assert touch.done
        names[1].unlink()
        with pytest.raises(SasError, match="b was to be made, but is not there"):
            workers.do("half made", [only_a])


def test_several_processes_do_the_same(tmp_path: Path) -> None:
    jobs = [Job(tmp_path / f"{n}", atomic_write, (tmp_path / f"{n}", b"x")) for n in range(5)]
    with Workers(2, lambda text: None) as workers:
        workers.do("things", jobs)
    assert all(job.target.read_bytes() == b"x" for job in jobs)


@pytest.mark.parametrize("count", [1, 2])
def test_a_job_waits_for_what_it_reads_and_for_nothing_else(tmp_path: Path, count: int) -> None:
    def job(name: str, after: Sequence[str] = (), *, patient_for: str | None = None) -> Job:
        wait = f"for i in $(seq 3000); do [ -e {patient_for} ] && break; sleep 0.01; done; "
        script = f"{wait}[ -e {patient_for} ] && " if patient_for else ""
        reads = "".join(f"cat {path} && " for path in after)
        command = ["sh", "-c", f"cd {tmp_path}; {script}{reads}touch {name}"]
        files = tuple(tmp_path / path for path in after)
        return Job(tmp_path / name, subprocess.run, (command,), files)

    (tmp_path / "there").touch()
    # With two processes the slow one ends only when a job of the second stage is done.
    slow = job("slow", patient_for="of-quick" if count > 1 else None)
    stages = [
        Stage("first", [slow, job("quick")]),
        Stage("second", [job("of-slow", ["slow"]), job("of-quick", ["there", "quick"])]),
    ]
    said: list[str] = []
    with Workers(count, said.append) as workers:
        workers.do_all(stages)
    assert all(one.target.exists() for stage in stages for one in stage.jobs)
    assert said == ["first: 2 to make", "second: 2 to make"]
    with pytest.raises(SasError, match="not there and not made"), Workers(count) as workers:
        workers.do_all([Stage("third", [job("never", ["nowhere"])])])
    with pytest.raises(SasError, match="none can be made: egg, hen"), Workers(count) as workers:
        workers.do_all([Stage("circle", [job("hen", ["egg"]), job("egg", ["hen"])])])


@pytest.mark.parametrize("count", [1, 2])
def test_what_fails_in_another_process_is_raised_here(tmp_path: Path, count: int) -> None:
    bad = Job(tmp_path / "a", atomic_write, (tmp_path / "b", b""))
    after = Job(tmp_path / "c", atomic_write, (tmp_path / "c", b""), (tmp_path / "a",))
    with pytest.raises(SasError, match="is not there"), Workers(count, len) as workers:
        workers.do_all([Stage("bad", [bad]), Stage("never", [after])])
    assert not (tmp_path / "c").exists()


@pytest.mark.parametrize("once", [True, False])
def test_every_job_of_the_ablation_comes_after_all_that_it_reads(
    tmp_path: Path, once: bool
) -> None:
    settings = replace(load_settings("small"), teachers_once=once)
    files = Files(tmp_path, settings, settings.final)
    stages = {stage.title: stage.jobs for stage in stages_of(files)}
    made: set[Path] = set()
    for jobs in stages.values():
        for job in jobs:
            assert set(job.after) <= made, job.target
            made.update(job.files)
    assert len(stages["teachers"]) == (3 if once else 9)
    for title, group in (
        ("features for students", "students"),
        ("teachers in held-out rooms", "held_out"),
    ):
        # Teachers that repetitions share look at a room once.
        assert len(stages[title]) == files.rooms(group) * (1 if once else 3)
        for job in stages[title]:
            tables = {files.capability(seed) for seed in job.arguments[1]}
            taught = {files.teacher(name, job.arguments[1][0]) for name in TEACHERS}
            room = superpoints_path(files.clouds(group), job.arguments[2])
            assert {room} | taught | tables == set(job.after)
    for s in settings.final.runs:
        taught = {files.teacher(name, s) for name in TEACHERS}
        fused = {
            fused_path(files, s, which, index)
            for which in FEATURES
            for index in range(files.rooms("students"))
        }
        for job in stages["students"]:
            if job.arguments[1:] == ("3d/self-distillation", s):
                assert files.student("3d/superpoint", s) in job.after
        needed = {
            "capability": taught,
            "students": fused,
            "students in rooms of their own": fused,
        }
        for title, wanted in needed.items():
            of_seed = [job for job in stages[title] if f"seed-{s}" in job.target.parts]
            assert of_seed and all(wanted <= set(job.after) for job in of_seed), title


def test_rooms_are_made_beside_the_last_teacher(tmp_path: Path) -> None:
    settings = load_settings("small")
    titles = [stage.title for stage in stages_of(Files(tmp_path, settings, settings.final))]
    assert titles.index("rooms: teaching") < titles.index("teachers")
    assert titles.index("teachers") < titles.index("rooms: students") < titles.index("capability")


def test_a_process_that_is_killed_ends_the_run_with_a_sentence(tmp_path: Path) -> None:
    killed = Job(tmp_path / "killed", os._exit, (1,))
    other = Job(tmp_path / "other", time.sleep, (60,))
    with pytest.raises(SasError, match="ended before its work"), Workers(2, len) as workers:
        workers.do("dead", [killed, other])


_BUSY = """
import time
from pathlib import Path
from sas_ros.files import atomic_write
from sas_training.jobs import Job, Workers

if __name__ == "__main__":
    quick = [Job(Path(name), atomic_write, (Path(name), b"")) for name in "ab"]
    slow = [Job(Path("never"), time.sleep, (60,)) for _ in range(2)]
    with Workers(2) as workers:
        for _ in workers._done([*quick, *slow]):
            print("begun", flush=True)
"""


def test_no_process_is_left_when_the_run_is_killed(tmp_path: Path) -> None:
    script = tmp_path / "busy.py"
    script.write_text(_BUSY)
    command = [sys.executable, str(script)]
    run = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=tmp_path)
    assert run.stdout is not None
    assert [run.stdout.readline() for _ in range(2)] == ["begun\n"] * 2
    run.send_signal(signal.SIGKILL)
    # Ends when nobody holds the other side of the pipe any more.
    assert run.communicate(timeout=30) == ("", None)


def test_file_names_tell_what_they_are_made_of(tmp_path: Path) -> None:
    assert key_of(1, {"a": 2, "b": 3}) == key_of(1, {"b": 3, "a": 2})
    settings = load_settings("tiny")
    files = Files(tmp_path, settings, settings.development)
    warm = replace(settings, tau=0.5)
    warmer = Files(tmp_path, warm, warm.development)
    assert files.teacher("objects", 1) == warmer.teacher("objects", 1)
    assert files.capability(1) == warmer.capability(1)
    assert files.predictions_2d(1, 0) != warmer.predictions_2d(1, 0)
    assert files.student("3d/pixel", 1) != warmer.student("3d/pixel", 1)
    shared = Files(tmp_path, replace(settings, teachers_once=True), settings.development)
    assert shared.teacher("objects", 1) == shared.teacher("objects", 2)
    assert files.teacher("objects", 1) != files.teacher("objects", 2)
    assert shared.capability(1) != shared.capability(2)
    final = Files(tmp_path, settings, settings.final)
    assert files.world("held_out") != final.world("held_out")
    assert len({files.world_seed(group) for group in ("teaching", "students", "held_out")}) == 3


def test_a_disk_that_is_too_small_is_refused_at_once(tmp_path: Path) -> None:
    settings = load_settings("tiny")
    huge = replace(settings, rooms=replace(settings.rooms, points=10**12))
    with pytest.raises(SasError, match=r"disk of .* left"):
        check_space(Files(tmp_path, huge, huge.development))


# ------------------------------------------------------------------------------- from end to end
class _Killed(Exception):
    pass


class _Interrupted(Workers):
    """Stops in every stage once, after its first job."""

    def __init__(self) -> None:
        super().__init__(1, lambda text: None)
        self.stopped: list[str] = []

    def do(self, title: str, jobs: Sequence[Job]) -> None:
        missing = [job for job in jobs if not job.done]
        if missing and title not in self.stopped:
            missing[0].run()
            self.stopped.append(title)
            raise _Killed
        super().do(title, jobs)

    def do_all(self, stages: Sequence[Stage]) -> None:
        for stage in stages:
            self.do(stage.title, stage.jobs)


def _stopping(stopped: list[str], title_of: str) -> Any:
    """A `followed` that stops its first training after two steps."""

    def followed(steps: Iterable[Any], total: int, done: int, title: str) -> Iterator[Any]:
        for number, step in enumerate(steps):
            yield step
            if number == 1 and title_of not in stopped:
                stopped.append(title_of)
                raise _Killed

    return followed


def test_the_whole_ablation_goes_on_wherever_it_was_stopped(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for package in ("scipy", "numba", "tqdm"):
        pytest.importorskip(package)
    why_not = encoder_available(MINILM)
    if why_not is not None:
        pytest.skip(why_not)
    settings = load_settings("tiny")
    files = Files(tmp_path, settings, settings.development)
    workers = _Interrupted()
    trainings: list[str] = []
    monkeypatch.setattr(making, "followed", _stopping(trainings, "teacher"))
    monkeypatch.setattr(students, "followed", _stopping(trainings, "student"))
    for _ in range(20):
        try:
            make_everything(files, workers)
            break
        except _Killed:
            continue
    assert trainings == ["teacher", "student"]
    assert workers.stopped == [
        "words",
        "rooms: teaching",
        "teachers",
        "rooms: students",
        "clouds: students",
        "rooms: held_out",
        "clouds: held_out",
        "pictures of single objects",
        "capability",
        "features for students",
        "students",
        "teachers in held-out rooms",
        "students in held-out rooms",
        "students in rooms of their own",
    ]
    monkeypatch.undo()
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*") if path.is_file()}
    capsys.readouterr()
    out = tmp_path / "result"
    line = ["experiment", "ablation", "--scale", "tiny", "--run", str(tmp_path), "-o", str(out)]
    assert main([*line, "--workers", "1", "--json"]) == 0
    printed, said = capsys.readouterr()
    assert "to make" not in said
    shared = files.student("3d/superpoint", 1).with_suffix("") / "shared.pt"
    recipe = recipe_of("3d/self-distillation", settings.student, 1)
    assert shared.is_file() == (shared_epochs(recipe) > 0)
    assert said.count("kept") == len(workers.stopped)
    assert all(path.stat().st_mtime_ns == then for path, then in before.items())
    result = json.loads(printed)
    assert result == json.loads((out / "ablation.json").read_text())
    assert [row["name"] for row in result["rows"]] == [*ROWS_2D, *ROWS_3D]
    assert result["seeds"] == {"group": "development", "world": 1, "runs": [1]}
    by_name = {row["name"]: row["miou_mean"] for row in result["rows"]}
    assert all(0 <= value < 1 for value in by_name.values())
    # The teachers are bad, but no longer without any idea.
    assert max(by_name[f"2d/{name}"] for name in TEACHERS) > 0.02
    assert by_name["2d/oracle"] > 0
    checks = result["checks"]
    assert checks["rooms"] == settings.rooms.students
    assert [one["name"] for one in checks["students"]] == list(ROWS_3D)
    for one in checks["students"]:
        shares = [told["share"] for told in one["classes"].values()]
        assert sum(shares) == pytest.approx(1)
    assert checks["capability"]["pairs"]["surfaces - distant"]["known_to_both"] is not None
    _check_controls(tmp_path, capsys)


def _check_controls(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Controls in the folder of a finished ablation, made and then kept."""
    out = run / "result"
    line = ["experiment", "controls", "--scale", "tiny", "--run", str(run), "-o", str(out)]
    assert main([*line, "--workers", "1", "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert result == json.loads((out / "controls.json").read_text())
    names = [row["name"] for row in result["rows"]]
    assert names == [*ABLATION_ROWS, *sorted(one.name for one in CONTROLS)]
    ablation = json.loads((out / "ablation.json").read_text())
    repeated = {row["name"]: row["per_class"] for row in ablation["rows"]}
    for row in result["rows"][: len(ABLATION_ROWS)]:
        assert row["per_class"] == repeated[row["name"]]
    told = {one["name"]: one["teacher_miou"] for one in result["students"]}
    # Means over superpoints of true labels are nearly the truth, of noise they are not.
    assert told["3d/truth"] > 0.5 > told["3d/noise"]
    page = (out / "controls.md").read_text()
    assert all(f"| {name} |" in page for name in names)
    assert main([*line, "--workers", "1"]) == 0
    printed, said = capsys.readouterr()
    assert printed == page and "to make" not in said
