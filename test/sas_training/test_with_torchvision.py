"""The tests of libraries that need torchvision, in a process of their own that has it."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
FOLDER = Path(sys.prefix) / "vision"
"""Where set-up puts them: transformers uses torchvision wherever it is installed, so that beside a
torch that it does not belong to all other tests would fail."""

TESTS = (
    "test/sas_ros/test_language.py::test_clip_from_a_local_file",
    "test/sas_ros/test_language.py::test_clip_never_downloads",
    "test/sas_training/test_lseg.py::test_golden_values_of_the_text_side",
    "test/sas_training/test_maskclip.py::test_a_model_of_open_clip_is_loaded_and_used",
    "test/sas_training/test_maskclip.py::test_dense_features_are_those_of_open_clips_own_tower",
    "test/sas_training/test_maskclip.py::test_wrong_weights_and_models_are_named",
    "test/sas_training/test_import_checkpoint.py::test_a_clip_checkpoint_embeds_the_labels",
    "test/sas_training/test_capability_masks.py::test_sam_2_of_transformers",
    "test/sas_training/test_capability_masks.py::test_the_reference_sam",
    "test/sas_training/test_capability_masks.py::test_the_reference_sam_without_its_package_is_named",
)


@pytest.mark.slow
def test_open_clip_and_segment_anything() -> None:
    if not FOLDER.is_dir():
        pytest.skip("set-up has not installed requirements/vision.txt")
    paths = [str(FOLDER), str(ROOT / "test" / "helpers"), os.environ.get("PYTHONPATH", "")]
    run = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "vision_plugin", "-p", "no:cacheprovider", *TESTS],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths))},
        capture_output=True,
        text=True,
    )
    # Three of the ten functions run twice or six times; a skipped one would be told beside these.
    assert re.search(r"^=+ 17 passed(, \d+ warnings?)? in ", run.stdout, re.M), (
        run.stdout + run.stderr
    )
