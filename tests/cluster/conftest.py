"""The fixtures of a cluster of processes, for the tests of this folder alone."""

import signal
from collections.abc import Iterator

import pytest
from clusters import alone, authority, clips, cluster, same, sweep

__all__ = ["alone", "authority", "clips", "cluster", "heard", "same", "sweep"]


@pytest.fixture(autouse=True, scope="session")
def heard() -> Iterator[None]:
    """What runs the tests may ignore signals (nohup, a script's `&`), and a child would inherit
    that.
    """
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)
