from __future__ import annotations


def clean() -> None:
    raise NotImplementedError
