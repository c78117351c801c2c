"""The one door to the library rosbags, which is an extra."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from sas_ros.errors import SasError


def rosbags(module: str) -> Any:
    """The module `rosbags.<module>`.

    Raises:
        SasError: rosbags is not installed; says how to get it.
    """
    try:
        return import_module(f"rosbags.{module}")
    except ImportError as error:
        raise SasError(
            f"Bags are read with the library rosbags, which cannot be imported ({error}); "
            "install it with: pip install 'rosbags>=0.11'."
        ) from error
