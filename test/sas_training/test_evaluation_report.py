"""`sas evaluate --report`: what is in the files, and that they are the same when made again."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import subprocess
from pathlib import Path

import numpy as np
import pytest
from students import untrained_student

import sas_ros
from sas_ros.errors import SasError
from sas_training.cli import main
from sas_training.evaluation import report as report_module
from sas_training.evaluation.confusion_picture import draw_confusion
from sas_training.evaluation.labelled import AnnotatedScan
from sas_training.evaluation.labels import SCANNET20
from sas_training.evaluation.metrics import NO_PREDICTION, ConfusionMatrix
from sas_training.evaluation.report import Report, confusion_csv, made_with
from sas_training.evaluation.scoring import read_files, score_scans, thinned

FILES = {"report.json", "report.md", "confusion.csv", "confusion.png"}


@pytest.fixture(scope="module")
def student(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("student") / "tiny.safetensors"
    untrained_student().save(path)
    return path


@pytest.fixture
def scans(tmp_path: Path) -> Path:
    folder = tmp_path / "scans"
    folder.mkdir()
    rng = np.random.default_rng(0)
    for name in ("a", "b"):
        points = rng.uniform(0, 3, (2000, 3)).astype(np.float32)
        np.savez(folder / f"{name}.npz", points=points, labels=rng.integers(0, 7, 2000))
    return folder


def evaluate(student: Path, scans: Path, *more: str) -> int:
    return main(["evaluate", "--student", str(student), str(scans), "--device", "cpu", *more])


def test_a_report_says_what_was_measured_and_how(
    student: Path, scans: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "new" / "report"
    assert evaluate(student, scans, "--report", str(folder)) == 0
    printed = capsys.readouterr().out
    assert "worst confusions" in printed and "per scan" in printed and str(folder) in printed
    assert {path.name for path in folder.iterdir()} == FILES
    content = json.loads((folder / "report.json").read_text())
    assert content["kind"] == "sas_evaluation_report" and content["format_version"] == 1
    assert content["made_with"]["version"] == sas_ros.__version__
    assert content["subject"]["name"] == "untrained"
    digest = hashlib.sha256(student.read_bytes()).hexdigest()
    assert content["subject"]["student_sha256"] == digest
    protocol = content["protocol"]
    assert protocol["labels"] == "scannet20" and protocol["votes"] == 1
    assert protocol["points_share"] == 1 and protocol["up"] == [0, 0, 1]
    assert protocol["memory_budget_mib"] is None
    figures = content["figures"]
    assert figures["points"] == 4000 and len(figures["per_scan"]) == 2
    assert [row["points"] for row in figures["per_scan"]] == [2000, 2000]

    rows = list(csv.reader(io.StringIO((folder / "confusion.csv").read_text())))
    assert rows[0] == ["true", *SCANNET20.names, "another word", "no prediction"]
    counts = np.array([row[1:] for row in rows[1:]], dtype=np.int64)
    assert counts.sum() == 4000
    for name, row in zip(SCANNET20.names, counts, strict=True):
        assert row.sum() == figures["per_class"][name]["points"]

    text = (folder / "report.md").read_text()
    for words in ("untrained on scannet20", digest, "a.npz", "b.npz", "confusion.png", "votes"):
        assert words in text
    assert f"{figures['miou_present']:.3f}" in text
    worst = content["worst_confusions"][0]
    assert f"1. {100 * worst['share']:.0f} % of {worst['truth']} is called" in text
    assert len(content["worst_confusions"]) == 10


def test_the_same_evaluation_writes_the_same_bytes(
    student: Path, scans: Path, tmp_path: Path
) -> None:
    for name in ("first", "second"):
        assert evaluate(student, scans, "--points", "0.5", "--report", str(tmp_path / name)) == 0
    for file in FILES:
        first, second = (tmp_path / name / file for name in ("first", "second"))
        assert first.read_bytes() == second.read_bytes()


def test_a_share_of_the_points_is_what_the_student_sees(
    student: Path, scans: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def score(*more: str) -> dict[str, object]:
        assert evaluate(student, scans, "--json", *more) == 0
        result: dict[str, object] = json.loads(capsys.readouterr().out)
        return result

    half = score("--points", "0.5")
    assert half["points"] == 2000 and half["points_share"] == 0.5
    small = score("--memory-budget", "900")["protocol"]
    assert isinstance(small, dict) and small["memory_budget_mib"] == 900
    assert score("--points", "0.5") == half
    assert score("--points", "0.5", "--seed", "1")["per_class"] != half["per_class"]
    assert evaluate(student, scans, "--points", "0.5", "--queries") == 2
    assert "--queries" in capsys.readouterr().err
    for bad in ("0", "1.5", "nan"):
        assert evaluate(student, scans, "--points", bad) == 2
        assert "share of points" in capsys.readouterr().err


def test_thinning_keeps_points_with_what_belongs_to_them() -> None:
    points = np.arange(30, dtype=np.float32).reshape(10, 3)
    colors = np.arange(30, dtype=np.uint8).reshape(10, 3)
    scan = AnnotatedScan(points, np.arange(10), np.arange(10) + 5, colors)
    half = thinned(scan, 0.5, (3, 4))
    assert len(half.labels) == 5 and (np.diff(half.labels) > 0).all()
    np.testing.assert_array_equal(half.points, points[half.labels])
    np.testing.assert_array_equal(half.instances, half.labels + 5)
    np.testing.assert_array_equal(half.colors, colors[half.labels])
    np.testing.assert_array_equal(thinned(scan, 0.5, (3, 4)).labels, half.labels)
    assert len(thinned(scan, 1e-9, (0,)).labels) == 1
    other = [thinned(scan, 0.5, (seed,)).labels.tolist() for seed in range(4)]
    assert len(set(map(tuple, other))) > 1


def test_files_add_up_to_the_whole(scans: Path) -> None:
    def predict(name: str, scan: AnnotatedScan) -> np.ndarray:
        return np.where(scan.points[:, 0] < 1.5, scan.labels, 3 if name.endswith("a.npz") else -1)

    scores = score_scans(read_files(sorted(scans.glob("*.npz")), SCANNET20), SCANNET20, predict)
    np.testing.assert_array_equal(
        sum(scan.matrix.counts for scan in scores.scans), scores.matrix.counts
    )
    first, second = scores.scans
    assert (first.name, second.name) == (str(scans / "a.npz"), str(scans / "b.npz"))
    assert first.sha256 != second.sha256
    assert first.matrix.counts[0, 3] > 0 and not first.matrix.counts[:, -1].any()
    assert not second.matrix.counts[0, 3] and second.matrix.counts[0, -1] > 0


# ---------------------------------------------------------------- pictures and tables
def test_the_picture_shows_right_in_green_and_wrong_in_red() -> None:
    matrix = ConfusionMatrix(("wall", "floor", "never there"))
    matrix.add(np.repeat([0, 1], [100, 100]), np.repeat([0, 1, 1], [90, 10, 100]))
    image = draw_confusion(matrix, "a title")
    green = (image[..., 1].astype(int) - image[..., 0] > 60).sum()
    red = (image[..., 0].astype(int) - image[..., 2] > 40).sum()
    cell = 43 * 43
    assert 1.2 * cell < green < 2.2 * cell  # two right cells, less their letters
    assert 0.5 * cell < red < 1.1 * cell  # one wrong cell
    right = ConfusionMatrix(("wall", "floor", "never there"))
    right.add(np.repeat([0, 1], 100), np.repeat([0, 1], 100))
    all_right = draw_confusion(right, "a title").astype(int)
    assert not (all_right[..., 0] - all_right[..., 2] > 40).any()


def test_the_picture_has_columns_for_what_no_class_is() -> None:
    def width(*predicted: int) -> int:
        matrix = ConfusionMatrix(("wall", "floor"))
        matrix.add(np.zeros(len(predicted), np.int64), np.array(predicted))
        return int(draw_confusion(matrix, "").shape[1])

    for more in ((1,), (-1,), (NO_PREDICTION,), (-1, NO_PREDICTION)):
        # A few pixels are those of other figures beside the rows.
        assert round((width(0, *more) - width(0)) / 44) == len(more)


@pytest.mark.parametrize("classes", [30, 160])
def test_many_classes_make_small_cells(classes: int) -> None:
    matrix = ConfusionMatrix([f"class {number}" for number in range(classes)])
    ids = np.arange(classes)
    matrix.add(ids, (ids + 1) % classes)
    assert max(draw_confusion(matrix, "many").shape) < 2400


def test_names_with_commas_stay_one_column() -> None:
    matrix = ConfusionMatrix(('a "b", c', "d"))
    rows = list(csv.reader(io.StringIO(confusion_csv(matrix))))
    assert rows[0][1] == rows[1][0] == 'a "b", c' and {len(row) for row in rows} == {5}


def test_nothing_labelled_makes_no_report(scans: Path, tmp_path: Path) -> None:
    for path in scans.glob("*.npz"):
        np.savez(path, points=np.ones((5, 3), np.float32), labels=np.full(5, 255))
    files = read_files(sorted(scans.glob("*.npz")), SCANNET20)
    scores = score_scans(files, SCANNET20, lambda _, scan: scan.labels)
    with pytest.raises(SasError, match="No point"):
        Report({"name": "x"}, {"labels": "scannet20"}, scores, {}).write(tmp_path / "report")
    assert not (tmp_path / "report").exists()


def test_the_commit_is_that_of_the_checkout(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = tmp_path / "sas_training" / "evaluation"
    home.mkdir(parents=True)
    monkeypatch.setattr(report_module, "__file__", str(home / "report.py"))
    assert made_with() == {"version": sas_ros.__version__, "commit": None, "changed": None}

    def git(*words: str) -> str:
        who = ["-c", "user.name=a", "-c", "user.email=a@b", "-c", "init.defaultBranch=main"]
        command = ["git", "-C", str(tmp_path), *who, *words]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()

    (tmp_path / "file").write_text("a")
    git("init")
    git("add", "file")
    git("commit", "-m", "first")
    assert made_with()["commit"] == git("rev-parse", "HEAD") and made_with()["changed"] is False
    (tmp_path / "notes").write_text("of somebody")
    assert made_with()["changed"] is False  # no part of the package
    (home / "new.py").write_text("")
    assert made_with()["changed"] is True
    (home / "new.py").unlink()
    (tmp_path / "file").write_text("b")
    assert made_with()["changed"] is True


def test_up_is_what_the_help_says(capsys: pytest.CaptureFixture[str]) -> None:
    for verb, default in (("evaluate", "0,0,1, as labelled"), ("segment", "estimated from")):
        with pytest.raises(SystemExit):
            main([verb, "--help"])
        text = " ".join(capsys.readouterr().out.split())
        assert f"optical frame (default: {default}" in text
