"""Open-vocabulary 3D perception for ROS 2: a cloud in, labelled points and text queries out."""

from __future__ import annotations

__version__ = "0.1.0"
