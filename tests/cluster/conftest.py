"""The fixtures of a cluster of processes, for the tests of this folder alone."""

from clusters import alone, authority, clips, cluster, same, sweep

__all__ = ["alone", "authority", "clips", "cluster", "same", "sweep"]
