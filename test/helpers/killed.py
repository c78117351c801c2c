"""Commands of `sas` as real processes, which die by SIGKILL at a file that a test names."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from sas_ros.language.available import MINILM, encoder_available

_LIVES = """
import importlib, json, os, signal, sys
from pathlib import Path
from sas_training.cli import main
for name in sys.argv[1:]:
    importlib.import_module(name)
for line in sys.stdin:
    when, pattern, count, said, words = json.loads(line)
    child = os.fork()
    if child:
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
        continue
    file = os.open(said, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(file, 1)
    os.dup2(file, 2)
    replace = Path.replace
    def killed(path, target):
        global count
        found = when and Path(target).match(pattern)
        count -= bool(found)
        if found and count == 0:
            if when == "after":
                replace(path, target)
            os.kill(os.getpid(), signal.SIGKILL)
        return replace(path, target)
    Path.replace = killed
    code = main(words)
    sys.stdout.flush()
    os._exit(code)
"""
"""What takes long to import is imported once; nothing has been computed, so forking is safe."""


class Lives:
    """Does commands one after the other, each in a process of its own; made by `lives`."""

    def __init__(self, server: subprocess.Popen[str], said: Path) -> None:
        self._server, self._said = server, said

    def killed(self, when: str, pattern: str, words: Sequence[str], count: int = 1) -> str:
        """Die "before" or "after" the `count`-th file of a pattern gets its name.

        Returns what the command said until then.
        """
        code, text = self._live((when, pattern, count), words)
        assert code == -signal.SIGKILL, f"{when} {pattern}: {code}, not killed\n{text}"
        return text

    def whole(self, words: Sequence[str]) -> str:
        """Live to the end, without a mistake; returns what the command said."""
        code, text = self._live(("", "", 0), words)
        assert code == 0, text
        return text

    def _live(self, death: tuple[str, str, int], words: Sequence[str]) -> tuple[int, str]:
        assert self._server.stdin is not None and self._server.stdout is not None
        print(json.dumps([*death, str(self._said), list(words)]), file=self._server.stdin)
        self._server.stdin.flush()
        code = int(self._server.stdout.readline())
        return code, self._said.read_text()


@contextmanager
def lives(folder: Path, *modules: str) -> Iterator[Lives]:
    """Processes that begin with `modules` imported, those of this folder too, and what the text
    encoder needs, where it is there; they compute with one thread; what they say is kept in
    `folder`."""
    if encoder_available(MINILM) is None:
        modules += ("tokenizers", "transformers.models.bert.modeling_bert")
    known = os.environ.get("PYTHONPATH")
    path = os.pathsep.join([str(Path(__file__).parent), *([known] if known else [])])
    server = subprocess.Popen(
        [sys.executable, "-c", _LIVES, *modules],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": path},
        text=True,
    )
    with server:  # without anything to read it ends
        yield Lives(server, folder / "said.txt")


def contents(folder: Path, *without: str) -> dict[str, bytes]:
    """What is in the files below a folder, hidden ones too, by their paths; files of some patterns
    left out."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and not any(path.match(one) for one in without)
    }


def times(folder: Path) -> dict[Path, int]:
    """When each whole file below a folder was written."""
    return {
        path: path.stat().st_mtime_ns
        for path in folder.rglob("*")
        if path.is_file() and not path.name.startswith(".")
    }
