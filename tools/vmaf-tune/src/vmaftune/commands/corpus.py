from __future__ import annotations


def corpus() -> None:
    raise NotImplementedError
