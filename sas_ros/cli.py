"""Running a `sas` verb: errors become one sentence and an exit code, never a traceback."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from importlib import import_module

from sas_ros import __version__
from sas_ros.errors import SasError
from sas_ros.huge_pages import use_huge_pages

ROBOT_VERBS: dict[str, tuple[str, str]] = {
    "segment": ("sas_ros.commands.segment", "label a scan file, or find words in it"),
    "label": ("sas_ros.commands.label", "label the point clouds of a bag, without a ROS graph"),
    "run": ("sas_ros.commands.run", "start the perception node (namespace sas)"),
    "replay": ("sas_ros.commands.replay", "publish a scan file, or play a bag"),
    "query": ("sas_ros.commands.query", "ask the running node for something by name"),
    "map": ("sas_ros.commands.map", "map files: show, merge; a running node's map: save, reset"),
    "doctor": ("sas_ros.commands.doctor", "say why nothing comes out, and what to do"),
    "save": ("sas_ros.commands.save", "write the next cloud of a topic as PLY"),
}
"""Verb -> (module with `configure(parser)` and `run(arguments) -> int`, one line of help)."""


def make_parser(
    verbs: Mapping[str, tuple[str, str]], chosen: str | None
) -> argparse.ArgumentParser:
    """The parser of all verbs, with the arguments of the chosen one only.

    Only that verb's module is imported, so that `sas --help` stays quick.
    """
    parser = argparse.ArgumentParser(
        prog="sas", description="A point cloud in, labelled points and text queries out."
    )
    parser.add_argument("--version", action="version", version=f"sas_ros {__version__}")
    subparsers = parser.add_subparsers(dest="verb", metavar="VERB", required=True)
    for name, (module_name, help_text) in verbs.items():
        sub = subparsers.add_parser(name, help=help_text, description=help_text)
        if name == chosen:
            import_module(module_name).configure(sub)
    return parser


def main(
    verbs: Mapping[str, tuple[str, str]] = ROBOT_VERBS, argv: Sequence[str] | None = None
) -> int:
    """Parse the command line, import only the verb that was asked for, and run it.

    Returns the exit code: 0 done, 1 a verb's own "no" (such as not found), 2 a user error, 130
    interrupted.
    """
    use_huge_pages()
    words = list(sys.argv[1:] if argv is None else argv)
    # From --ros-args on, arguments are ROS's own, as everywhere in ROS 2.
    at = words.index("--ros-args") if "--ros-args" in words else len(words)
    arguments, ros_arguments = words[:at], words[at:]
    chosen = next((word for word in arguments if not word.startswith("-")), None)
    parsed = make_parser(verbs, chosen).parse_args(arguments)
    parsed.ros_arguments = ros_arguments
    try:
        code: int = import_module(verbs[parsed.verb][0]).run(parsed)
        return code
    except SasError as error:
        print(f"sas {parsed.verb}: {_printable(str(error))}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(f"sas {parsed.verb}: interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:
        sys.stderr.close()
        return 0
    except MemoryError as error:
        advice = "Thin the cloud, or give a smaller --memory-budget where the verb has one."
        print(f"sas {parsed.verb}: not enough memory. {error} {advice}", file=sys.stderr)
        return 2
    except OSError as error:  # an output that cannot be written, a disk that is full
        print(f"sas {parsed.verb}: {error}", file=sys.stderr)
        return 2
    except Exception as error:
        # Names that ROS refuses (topics, namespaces); rclpy is known by name only here.
        if not type(error).__module__.startswith("rclpy.exceptions"):
            raise
        print(f"sas {parsed.verb}: {error}".replace("\n", " "), file=sys.stderr)
        return 2


def _printable(text: str) -> str:
    """The text without what moves a terminal's cursor: sentences quote damaged files."""
    return "".join(c if c.isprintable() or c == "\n" else ascii(c)[1:-1] for c in text)
