"""The map's two services: `save_map` and `reset_map` (std_srvs/srv/Trigger)."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

from rclpy.node import Node
from rclpy.task import Future
from std_srvs.srv import Trigger

from sas_ros.errors import SasError
from sas_ros.nodes.answering import create_answering_service
from sas_ros.nodes.log import describe
from sas_ros.nodes.map_keeper import MapKeeper
from sas_ros.nodes.shared import Shared


class MapServices:
    """Answers in every state; a failure is a sentence, never an exception.

    Files are named by the parameter `map_file` only, never by a message. One is written in a thread
    of its own, so that queries go on meanwhile.
    """

    def __init__(self, node: Node, shared: Shared, keeper: Callable[[], MapKeeper | None]) -> None:
        self._node, self._log, self._keeper = node, shared.log, keeper
        self._saving = False
        create_answering_service(node, Trigger, "save_map", self._save, shared.log)
        create_answering_service(node, Trigger, "reset_map", self._reset, shared.log)

    async def _save(self, _: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        try:
            keeper = self._map()
            if self._saving:
                raise SasError("The map is being saved already.")
            self._saving = True
            try:
                response.message = await self._in_thread(keeper.save)
            finally:
                self._saving = False
            response.success = True
        except SasError as error:
            response.message = str(error)
        except Exception as error:  # an exception would end the executor
            self._log.error("save_map", f"save_map failed: {describe(error)}")
            response.message = f"The node failed ({type(error).__name__}); its log says more."
        return response

    def _reset(self, _: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        try:
            response.message = f"{self._map().reset()} voxels were forgotten."
            response.success = True
        except SasError as error:
            response.message = str(error)
        return response

    def _map(self) -> MapKeeper:
        keeper = self._keeper()
        if keeper is None:
            raise SasError(
                "There is no map: the parameter map is none, or the node is not configured."
            )
        return keeper

    async def _in_thread(self, work: Callable[[], str]) -> str:
        executor = self._node.executor
        assert executor is not None
        future: Future[Any] = Future(executor=executor)

        def run() -> None:
            try:
                outcome: str | Exception = work()
            except Exception as error:
                outcome = error
            future.set_result(outcome)
            executor.wake()  # the executor sleeps until something happens

        threading.Thread(target=run, name="save map", daemon=True).start()
        outcome = await future
        if isinstance(outcome, Exception):
            raise outcome
        return str(outcome)
