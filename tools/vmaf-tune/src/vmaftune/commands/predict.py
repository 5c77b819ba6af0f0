from __future__ import annotations


def predict() -> None:
    raise NotImplementedError
