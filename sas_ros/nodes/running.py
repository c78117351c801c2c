"""Starting and ending the process of a node that serves until it is interrupted."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from types import FrameType
from typing import Any

import rclpy
from rclpy.exceptions import ParameterException
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
from rclpy.impl.implementation_singleton import rclpy_implementation

from sas_ros.errors import SasError
from sas_ros.nodes.middleware_watch import MiddlewareWatch

DONE, FAILED, USER_ERROR, LOCKED_UP = 0, 1, 2, 3
PATIENCE_SECONDS = 3.0
"""After a first interrupt; a later one ends what still hangs."""

RESCUE_SECONDS = 30.0
"""How long what would be lost with a locked-up process may take to be saved."""


def run_node(
    make: Callable[[], Any],
    *,
    args: Sequence[str] | None = None,
    start: Callable[[Any], bool] = lambda node: True,
    stop: Callable[[Any], bool] = lambda node: True,
    rescue: Callable[[Any], str] = lambda node: "",
) -> int:
    """Initialise ROS, spin a node until it is interrupted, and end cleanly.

    Args:
        make: creates the node.
        args: ROS arguments; None takes those of the process.
        start: called before spinning; False ends with exit code 1.
        stop: called at the end; False says that a thread is still busy.
        rescue: called when the middleware is locked up, in a thread of its own; saves what would be
            lost and returns a sentence, or nothing.

    Returns:
        0 after SIGINT, SIGTERM or a shutdown of the context, 1 when `start` failed, 2 for a bad
        parameter or argument (printed as one sentence). A process whose middleware is locked up
        says so, calls `rescue` and ends with 3, whatever else it does: nothing else helps, and a
        supervisor can start it again.
    """
    with _interrupts() as spinning:
        return _run(make, args, start, stop, rescue, spinning)


def _run(
    make: Callable[[], Any],
    args: Sequence[str] | None,
    start: Callable[[Any], bool],
    stop: Callable[[Any], bool],
    rescue: Callable[[Any], str],
    spinning: Callable[[], None],
) -> int:
    try:
        rclpy.init(args=None if args is None else list(args))
    except Exception as error:  # rclpy raises RCLError and others for bad arguments
        print(f"ROS could not be initialised: {error}", file=sys.stderr)
        return USER_ERROR
    executor, node, code, idle = None, None, DONE, True
    watch = MiddlewareWatch(lambda: _end_locked_up(lambda: rescue(node) if node else ""))
    try:
        executor = SingleThreadedExecutor()
        node = make()
        executor.add_node(node)
        if start(node):
            spinning()
            executor.spin()
        elif rclpy.ok():  # interrupted while starting is no failure
            code = FAILED
    except (KeyboardInterrupt, ExternalShutdownException):
        pass
    except (rclpy_implementation.RCLError, rclpy_implementation.InvalidHandle):
        if rclpy.ok():
            raise
        # A callback was about to publish when the signal shut the context down.
    except (SasError, ParameterException) as error:
        print(f"The node could not be started: {error}", file=sys.stderr)
        code = USER_ERROR
    finally:
        try:
            if node is not None:
                idle = stop(node)
                node.destroy_node()
            if executor is not None:
                executor.shutdown(timeout_sec=1.0)
            rclpy.try_shutdown()
        finally:
            watch.stop()
    if not idle:
        # A thread in the middle of a forward pass cannot be ended, and must not be met by the
        # interpreter's tear-down.
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    return code


def _end_locked_up(rescue: Callable[[], str]) -> None:
    def save() -> None:
        try:
            _say(rescue())
        except SasError as error:
            _say(f"Nothing could be saved: {error}")

    try:
        # By print: the log has a topic too, and who publishes may hang.
        _say(
            "The middleware of this process is locked up by a fault of Fast DDS (its issue 6502): "
            f"no message or request arrives any more. The process ends with code {LOCKED_UP}; "
            "start it again (use_respawn:=true of the launch file does)."
        )
        rescuing = threading.Thread(target=save, name="rescue", daemon=True)
        rescuing.start()
        rescuing.join(RESCUE_SECONDS)
        if rescuing.is_alive():
            _say(f"Saving took more than {RESCUE_SECONDS:.0f} s and was given up.")
    finally:
        os._exit(LOCKED_UP)


def _say(sentence: str) -> None:
    if sentence:
        with suppress(OSError, ValueError):  # nobody reads it
            print(sentence, file=sys.stderr, flush=True)


@contextmanager
def _interrupts() -> Iterator[Callable[[], None]]:
    """SIGINT raises KeyboardInterrupt until the function that this yields is called.

    After that it only shuts the context down, as rclpy's own handler does, which ends `spin`: an
    exception out of nowhere may hit the middle of a callback, or rclpy's C++ code while it warns,
    which then ends in a SystemError. Where the node hangs all the same, an interrupt some seconds
    later raises; not the second one, which launch adds to that of the terminal.
    """
    if threading.current_thread() is not threading.main_thread():
        yield lambda: None
        return
    quiet = False
    first: float | None = None

    def interrupted(number: int, frame: FrameType | None) -> None:
        nonlocal first
        now = time.monotonic()
        if not quiet or (first is not None and now - first > PATIENCE_SECONDS):
            signal.default_int_handler(number, frame)
        first = now if first is None else first

    def spinning() -> None:
        nonlocal quiet
        quiet = True

    before = signal.signal(signal.SIGINT, interrupted)
    try:
        yield spinning
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler if before is None else before)
