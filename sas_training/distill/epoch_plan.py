"""Which scenes each step of a run takes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from sas_ros.errors import SasError


@dataclass(frozen=True)
class EpochPlan:
    """Which scenes a step takes.

    An epoch is `repeats` passes over all scenes, each in another order. The last batch of a pass is
    filled up with scenes from its beginning. No batch holds a scene twice.

    Raises `SasError` when there are fewer scenes than a batch has.
    """

    scenes: int
    batch: int
    repeats: int
    seed: int

    def __post_init__(self) -> None:
        if self.scenes < self.batch:
            raise SasError(
                f"A batch of {self.batch} scenes cannot be made of {self.scenes}; set a smaller "
                "one (--set schedule.batch=...)."
            )

    @property
    def steps(self) -> int:
        """Steps of an epoch."""
        return self.repeats * self._steps_of_pass

    @property
    def _steps_of_pass(self) -> int:
        return -(-self.scenes // self.batch)

    def scenes_of(self, step: int) -> npt.NDArray[np.int64]:
        """(batch,) the distinct scenes of a step; steps count from 0 through all epochs."""
        number, within = divmod(step, self._steps_of_pass)
        order = np.random.default_rng((self.seed, 11, number)).permutation(self.scenes)
        order = np.concatenate([order, order])
        return order[within * self.batch : (within + 1) * self.batch]
