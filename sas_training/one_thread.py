"""Sums in one order: what is kept of numbers must not depend on how many threads added them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def one_thread() -> Iterator[None]:
    """PyTorch's operators use one thread inside, and as many as before afterwards.

    Text vectors of one and of two threads differ in their last bits. A run that remembers a hash of
    them would take itself for another one when it goes on with other threads.
    """
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
