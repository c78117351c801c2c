"""`sas bench superpoints`: graph segmentation, against what scipy can do with the same graph."""

from __future__ import annotations

import time
from typing import Any

import numpy as np

from sas_ros.errors import SasError
from sas_training.bench.sweep import building
from sas_training.bench.timing import alternate, compared, machine
from sas_training.superpoints import SuperpointSettings, cloud_superpoints, segment_graph
from sas_training.superpoints.surfaces import cloud_graph


def bench_superpoints(points: int, rounds: int) -> dict[str, Any]:
    """Segment the graph of `points` points of generated rooms, one core.

    The alternative is scipy's minimum spanning tree, cut where an edge is heavier than `k`, and its
    connected components: simpler (one tolerance for all, no smallest size). The floor is one sum
    over edges and weights. Both start from the same edges.

    Returns:
        `ours_s`, `alternative_s`, `floor_s`, `ratio_to_floor`, `speedup`, `edges_per_s` of ours,
        `cloud_s` (neighbours, normals and segmentation together), `points`, `edges`, `superpoints`
        and what `timing.machine` tells.

    Raises:
        SasError: numba or scipy is not installed.
    """
    try:
        from scipy.sparse import coo_array
        from scipy.sparse.csgraph import connected_components, minimum_spanning_tree
    except ImportError as error:
        raise SasError(
            f"This bench needs scipy, which does not load here ({error}); install it with "
            "pip install 'sas_ros[training]'."
        ) from error
    settings = SuperpointSettings()
    rng = np.random.default_rng(0)
    cloud = (building(points) + rng.normal(scale=0.004, size=(points, 3))).astype(np.float32)
    edges, weights = cloud_graph(cloud.astype(np.float64), settings)

    def ours() -> Any:
        return segment_graph(edges, weights, points, settings.k, settings.min_size)

    def spanning_tree() -> Any:
        # A weight of zero would be no edge for scipy.
        held = np.maximum(weights, np.float32(1e-12))
        tree = minimum_spanning_tree(coo_array((held, edges.T), (points, points)).tocsr())
        tree.data[tree.data > settings.k] = 0
        tree.eliminate_zeros()
        return connected_components(tree, directed=False)

    jobs = {
        "ours_s": ours,
        "alternative_s": spanning_tree,
        "floor_s": lambda: (edges.sum(), weights.sum()),
    }
    seconds = compared(alternate(jobs, rounds))
    started = time.perf_counter()
    cloud_superpoints(cloud, settings)
    return {
        **seconds,
        "edges_per_s": len(edges) / seconds["ours_s"],
        "cloud_s": time.perf_counter() - started,
        "points": points,
        "edges": len(edges),
        "superpoints": int(ours().max()) + 1,
        **machine(),
    }
