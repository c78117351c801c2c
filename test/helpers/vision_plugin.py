"""A pytest plugin for a process that has the folder of `requirements/vision.txt` on its path.

The wheel of torchvision belongs to the public build of torch. Beside a CPU build its operators in
C++ cannot be loaded, and importing it fails where it describes two of them in Python. So these
are declared here, without a body: none of the calls we test comes to them, and one that did would
fail.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path

import torch
from torch import library

_DESCRIBED = ("nms", "qnms")
_SCHEMA = "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"


def _declare_what_does_not_load() -> None:
    spec = importlib.util.find_spec("torchvision")
    assert spec is not None and spec.origin is not None, "the folder is not on the path"
    try:
        torch.ops.load_library(str(Path(spec.origin).with_name("_C.so")))
    except OSError:
        for name in _DESCRIBED:
            library.define(f"torchvision::{name}", _SCHEMA)


_declare_what_does_not_load()
