"""The errors of the simulated depth camera, one after the other."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from sas_training.scenes.procedural.rays import Hits
from sas_training.scenes.procedural.sensor import Sensor

SHAPE = (40, 60)
SEEN = np.ones(1)


def _hits(distance: npt.ArrayLike, facing: float = 1.0) -> Hits:
    """One image of a single thing, rows and columns as `SHAPE`; infinite: nothing there."""
    rays = np.broadcast_to(np.asarray(distance, np.float32), SHAPE).ravel().copy()
    none = np.zeros((len(rays), 3), np.float32)
    thing = np.where(np.isfinite(rays), 0, -1).astype(np.int32)
    return Hits(rays, thing, np.full(len(rays), facing, np.float32), none, none, thing.astype(int))


def _measured(
    distance: npt.ArrayLike, facing: float = 1.0, seen: npt.ArrayLike = SEEN
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.bool_]]:
    rng = np.random.default_rng(0)
    found, valid = Sensor().measured(rng, _hits(distance, facing), np.asarray(seen), SHAPE)
    return found, valid


def test_noise_grows_with_the_square_of_the_distance() -> None:
    for metres in (1.0, 3.0):
        found, valid = _measured(metres)
        assert valid.all()
        np.testing.assert_allclose(found.std(), Sensor().noise * metres**2, rtol=0.05)
        np.testing.assert_allclose(found.mean(), metres, atol=Sensor().noise * metres**2 / 10)


def test_only_what_is_in_range_answers() -> None:
    for metres, share in ((0.3, 0.0), (1.0, 1.0), (4.6, 0.0), (np.inf, 0.0)):
        assert _measured(metres)[1].mean() == share, metres
    # The last quarter of the range answers ever less often.
    assert 0.3 < _measured(4.0)[1].mean() < 0.6


def test_grazing_rays_are_lost() -> None:
    shares = [_measured(1.0, facing)[1].mean() for facing in (0.05, 0.16, 0.3)]
    assert shares[0] == 0 and 0.3 < shares[1] < 0.7 and shares[2] == 1


def test_a_thing_answers_as_often_as_it_can_be_seen() -> None:
    assert 0.25 < _measured(1.0, seen=[0.3])[1].mean() < 0.35


def test_at_a_step_rays_are_lost_or_land_between_the_depths() -> None:
    near, far = 1.0, 1.5
    distance = np.where(np.arange(SHAPE[1]) < 30, near, far)
    found, valid = (rows.reshape(SHAPE) for rows in _measured(distance))
    beside = np.isin(np.arange(SHAPE[1]), (29, 30))
    assert valid[:, ~beside].all()
    assert 0.4 < valid[:, beside].mean() < 0.9
    error = np.abs(found - distance)
    assert error[:, ~beside].max() < 0.02
    between = error > 0.02
    assert between.any() and not between[:, 30].any()  # from the near side towards the far one
    assert (found[between] < far).all() and (found[between] > near).all()
    # Steps of a metre are two things far apart: nothing lies between.
    found, _ = _measured(np.where(np.arange(SHAPE[1]) < 30, 1.0, 2.0))
    assert np.abs(found - np.tile(np.where(np.arange(60) < 30, 1.0, 2.0), 40)).max() < 0.03
