"""The worker's GPU work does not hold up queries."""

from __future__ import annotations

import pytest
import torch

from sas_ros.nodes.device import OwnStream


def test_on_the_cpu_the_block_simply_runs() -> None:
    with OwnStream(torch.device("cpu")).work():
        assert torch.ones(2).sum() == 2


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_query_on_the_default_stream_does_not_wait_for_the_worker() -> None:
    stream = OwnStream(torch.device("cuda"))
    features, query = torch.ones(1000, 64, device="cuda"), torch.ones(64, device="cuda")
    features @ query  # the first call loads the library
    torch.cuda.synchronize()
    busy = torch.cuda.Event()
    with stream.work():
        torch.cuda._sleep(2_000_000_000)
        busy.record()
        with torch.cuda.stream(torch.cuda.default_stream()):
            answer = (features @ query).cpu()
        assert not busy.query(), "the query waited for the worker's stream"
    assert busy.query()
    assert torch.equal(answer, torch.full((1000,), 64.0))
