"""The perception node: lifecycle and wiring; what it does is in the modules it wires."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

from diagnostic_msgs.msg import DiagnosticArray
from rcl_interfaces.msg import SetParametersResult
from rclpy.clock import Clock, ClockType, JumpThreshold, TimeJump
from rclpy.duration import Duration
from rclpy.parameter import Parameter
from rclpy.task import Future
from sas_msgs.srv import Query, SetVocabulary
from sensor_msgs.msg import PointCloud2

from sas_ros.huge_pages import use_huge_pages
from sas_ros.language.vocabulary import Vocabulary
from sas_ros.nodes import messages, parameters
from sas_ros.nodes.answering import answer_patiently, create_answering_service
from sas_ros.nodes.frames import Arrival, FrameProcessor
from sas_ros.nodes.lifecycle import ManagedNode
from sas_ros.nodes.log import ThrottledLog, describe
from sas_ros.nodes.mailbox import Mailbox
from sas_ros.nodes.map_report import map_status
from sas_ros.nodes.map_services import MapServices
from sas_ros.nodes.map_setup import open_map
from sas_ros.nodes.model import Model, load_model, release_memory, student_threads, use_threads
from sas_ros.nodes.outputs import Publishers, reliable
from sas_ros.nodes.parameters import PerceptionParameters
from sas_ros.nodes.points_input import PointsInput
from sas_ros.nodes.report import NodeState, make_report
from sas_ros.nodes.running import run_node
from sas_ros.nodes.services import Busy, Desk
from sas_ros.nodes.shared import Shared
from sas_ros.nodes.target import TargetKeeper
from sas_ros.nodes.text_worker import Outcome, TextWorker
from sas_ros.nodes.tf_frames import TfFrames
from sas_ros.nodes.tf_up import listen_to_tf
from sas_ros.nodes.transport import use_large_cloud_profile
from sas_ros.nodes.worker import Worker

NODE_NAME = "perception"
STOP_SECONDS = 1.0
"""How long leaving the active state waits for the cloud that is being worked on."""

FINISH_SECONDS = 60.0
"""How long activating again waits for it: two clouds at once would need twice the memory."""


class PerceptionNode(ManagedNode):
    """Labels every cloud on `points` and answers text queries about the newest one.

    Callbacks run on one executor thread, the student on one worker thread, new text on another.
    """

    def __init__(self, *, namespace: str = "", transport_note: str = "", **options: Any) -> None:
        super().__init__(NODE_NAME, namespace=namespace, **options)
        parameters.declare(self)
        self._settings = PerceptionParameters.from_values(parameters.values_of(self))
        self._transport_note = transport_note
        self._log = ThrottledLog(self.get_logger())
        self._shared = Shared(parameters=lambda: self._settings, now=self.now, log=self._log)
        self._memory, self._tally = self._shared.memory, self._shared.tally
        self._model: Model | None = None
        self._outputs: Publishers | None = None
        self._frames: FrameProcessor | None = None
        self._tf = TfFrames(self)
        self._mailbox: Mailbox[Arrival] = Mailbox()
        self._worker: Worker[Arrival] | None = None
        self._retired: Worker[Arrival] | None = None
        self._label_version = 0
        self._last_stamp = 0
        self._desk = Desk(
            self._shared,
            wait_for=self._wait_for_text,
            target_changed=lambda: self._mailbox.nudge(),
            vocabulary_changed=self._announce,
            between=self._tf.between,
        )
        self._input = PointsInput(
            self,
            self._arrived,
            preference=lambda: self._settings.points_reliability,
            changed=self._housekeeping,
        )
        self._diagnostics = self.create_publisher(DiagnosticArray, "/diagnostics", reliable(5))
        # Services exist in every state, so that a client learns NOT_ACTIVE instead of waiting.
        create_answering_service(self, Query, "query", self._desk.query, self._log)
        create_answering_service(
            self, SetVocabulary, "set_vocabulary", self._desk.set_vocabulary, self._log
        )
        MapServices(self, self._shared, lambda: self._desk.map)
        answer_patiently(self, self._log)
        # Steady clocks: simulated time may stand still, and diagnostics have to say so.
        steady = Clock(clock_type=ClockType.STEADY_TIME)
        self.create_timer(1.0, self._report, clock=steady)
        self.create_timer(0.25, self._housekeeping, clock=steady)
        self.add_on_set_parameters_callback(self._check_parameters)
        self._poll_parameters = not hasattr(self, "add_post_set_parameters_callback")  # Humble
        if not self._poll_parameters:
            self.add_post_set_parameters_callback(lambda _: self._read_parameters())
        backwards = JumpThreshold(
            min_forward=None, min_backward=Duration(nanoseconds=-1), on_clock_change=True
        )
        self._jump_handle = self.get_clock().create_jump_callback(
            backwards, post_callback=self._clock_jumped
        )

    @property
    def autostart(self) -> bool:
        """Whether the node configures and activates itself."""
        return self._settings.autostart

    def now(self) -> float | None:
        """Node clock in seconds; None while simulated time has not started."""
        nanoseconds = int(self.get_clock().now().nanoseconds)
        return nanoseconds * 1e-9 if nanoseconds else None

    def setup(self) -> None:
        self._read_parameters()
        if self._transport_note:
            self.get_logger().info(self._transport_note)
        model = self._model = load_model(
            self._settings, last_version=self._label_version, tell=self.get_logger().info
        )
        self._outputs = Publishers(self)
        keeper = self._desk.map = open_map(
            model.bundle, self._shared, self._tf.lookup, self.get_logger().info
        )
        self._frames = FrameProcessor(
            model.segmenter,
            TargetKeeper(model.bundle.calibration, self._shared, self._outputs, self._tf.lookup),
            self._shared,
            self._outputs,
            up_from_tf=listen_to_tf(self._tf, self._settings, self.get_logger().warning),
            answered=keeper.offer if keeper is not None else None,
        )
        model.text.start()
        self._desk.configured = model
        self._announce(model.words.labels)
        self._memory.words = model.words

    def begin(self) -> None:
        assert self._frames is not None
        if self._retired is not None:
            self._retired.stop(FINISH_SECONDS)
        self._mailbox = Mailbox()
        self._worker = Worker(
            self._mailbox,
            self._frames.process,
            self._work_failed,
            idle=self._frames.refresh,
            max_rate=lambda: self._settings.max_rate,
            prepare=lambda: use_threads(student_threads(self._settings)),
        )
        self._worker.start()
        if self._desk.map is not None:
            self._desk.map.start()
        use_threads(1)  # this thread answers queries
        self._desk.active = True
        self._input.start()

    def pause(self) -> None:
        self._desk.active = False
        self._input.stop()
        if self._desk.map is not None:
            self._desk.map.stop()
        if self._worker is not None:
            if self._worker.stop(STOP_SECONDS) is not None:
                self._tally.drop("inactive")
            self._retired, self._worker = self._worker, None
        self._memory.forget()

    def tear_down(self) -> None:
        self.pause()
        self._desk.configured = None
        self._memory.words = None
        if self._model is not None:
            self._model.text.stop(STOP_SECONDS)
        if self._outputs is not None:
            self._outputs.destroy()
        self._tf.destroy()
        self._model = self._outputs = self._frames = self._desk.map = None
        release_memory()

    def _work_failed(self, arrival: Arrival | None, error: BaseException) -> None:
        # Publishing fails when SIGINT has shut the context down under a working thread.
        if self._frames is not None and self.context.ok():
            self._frames.failed(arrival, error)

    # Callbacks of the executor thread.

    def _arrived(self, message: PointCloud2) -> None:
        stamp = message.header.stamp.sec * 10**9 + message.header.stamp.nanosec
        if stamp < self._last_stamp - self._settings.backward_jump * 1e9:
            self._forget(f"stamps went back by {(self._last_stamp - stamp) * 1e-9:.1f} s")
        self._last_stamp = stamp
        self._tally.receive()
        arrival = Arrival(message, time.perf_counter(), self._memory.epoch)
        if self._mailbox.put(arrival) is not None:
            self._tally.drop("busy")

    def _clock_jumped(self, jump: TimeJump) -> None:
        self._forget("the clock went back")
        self._last_stamp = 0
        self._tf.clear()

    def _forget(self, why: str) -> None:
        if self._memory.forget():
            self.get_logger().info(f"Starting anew without snapshot and target: {why}.")

    def _announce(self, vocabulary: Vocabulary) -> None:
        """Tell what label numbers will mean; comes before the first cloud that uses them."""
        assert self._outputs is not None
        self._label_version = vocabulary.version
        self._outputs.label_info(vocabulary)

    async def _wait_for_text(self, text: TextWorker, texts: Sequence[str]) -> Outcome:
        executor = self.executor
        assert executor is not None
        future: Future[Outcome] = Future(executor=executor)

        def done(outcome: Outcome) -> None:
            future.set_result(outcome)
            executor.wake()  # the executor sleeps until something happens

        if not text.submit(texts, done, timeout=self._settings.text_timeout):
            raise Busy("Too much new text is waiting for the text encoder; ask again.")
        outcome: Outcome | None = await future
        assert outcome is not None
        return outcome

    def _housekeeping(self) -> None:
        try:
            if self._poll_parameters:
                self._read_parameters()
            self._input.follow_publishers()
            if self._model is not None:
                self._model.text.expire()
                self._model.text.start()
            if self._worker is not None and self._worker.ensure_alive():
                self.get_logger().error("The worker thread died and was started again.")
            if self._desk.map is not None:
                self._desk.map.tick()
        except Exception as error:  # an exception would end the executor
            self._log.error("housekeeping", describe(error))

    def _report(self) -> None:
        try:
            model, frames, worker = self._model, self._frames, self._worker
            state = NodeState(
                lifecycle=self.state_label,
                student=model.bundle.name if model else "none",
                device=str(model.segmenter.device) if model else "none",
                engine=model.segmenter.engine.description if model else "none",
                text_encoder=model.text.encoder_name if model else "none",
                text_waiting=model.text.waiting if model else 0,
                busy_for=worker.busy_for if worker else 0.0,
                worker_restarts=worker.restarts if worker else 0,
                up=frames.last_up if frames else None,
                transport=self._transport_note,
            )
            statuses = make_report(state, self._input.state(), self._shared)
            if self._desk.map is not None:
                statuses.append(map_status(self._desk.map.report()))
            stamp = int(self.get_clock().now().nanoseconds)
            message = messages.diagnostics_message(
                statuses, node=self.get_fully_qualified_name(), stamp_ns=stamp
            )
            self._diagnostics.publish(message)
        except Exception as error:  # an exception would end the executor
            self._log.error("report", describe(error))

    def _check_parameters(self, proposed: list[Parameter[Any]]) -> SetParametersResult:
        current = parameters.values_of(self)
        wanted = {item.name: item.value for item in proposed if item.name in current}
        reason = parameters.first_problem({**current, **wanted}) or parameters.fixed_change(
            current, wanted, configured=self._model is not None
        )
        if reason:
            return SetParametersResult(successful=False, reason=reason)
        return SetParametersResult(successful=True)

    def _read_parameters(self) -> None:
        self._settings = PerceptionParameters.from_values(parameters.values_of(self))

    def close(self) -> bool:
        """Stop the threads; False when the worker is still in the middle of a cloud."""
        self.tear_down()
        return self._retired is None or not self._retired.alive

    def rescue(self) -> str:
        """Save a map that is being built beside its file; a sentence, empty where there is none.

        Raises:
            SasError: it cannot be written.
        """
        keeper = self._desk.map
        if keeper is None or not keeper.can_save:
            return ""
        return keeper.save(time.strftime("rescued-%Y%m%d-%H%M%S-"))  # replaces no other


def main(args: Sequence[str] | None = None, *, namespace: str = "") -> int:
    """Run the node until SIGINT; returns the process's exit code.

    Args:
        args: ROS arguments, or None for those of the process.
        namespace: where none is given by a remapping (`-r __ns:=/other`).
    """
    use_huge_pages()
    note = use_large_cloud_profile()
    return run_node(
        lambda: PerceptionNode(namespace=namespace, transport_note=note),
        args=args,
        start=lambda node: not node.autostart or node.start(),
        stop=lambda node: node.close(),
        rescue=lambda node: node.rescue(),
    )


if __name__ == "__main__":
    raise SystemExit(main())
