"""Start-up hook of a .venv that uses a ROS 2 installation: makes our interface package loadable.

The loader reads LD_LIBRARY_PATH when a process starts, so Python starts itself once more with the
folder in it. Nothing has to be sourced besides the installation. (ROS 2 from wheels brings a hook
of its own.)
"""

from __future__ import annotations

import os
import sys


def _start_again_with_libraries() -> None:
    folder = os.path.join(sys.prefix, "lib")
    paths = os.environ.get("LD_LIBRARY_PATH", "").split(os.pathsep)
    if folder in paths or not sys.orig_argv:
        return
    os.environ["LD_LIBRARY_PATH"] = os.pathsep.join([folder, *filter(None, paths)])
    os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])


_start_again_with_libraries()
