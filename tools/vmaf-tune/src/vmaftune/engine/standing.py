"""Where a plan stands in a folder before anything runs, and how long the rest will take."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from vmaftune.engine.answers import Answerable, State, answers_of
from vmaftune.engine.rows import Item, answered_key
from vmaftune.media.ffmpeg import Ffmpeg


def standing(
    items: Sequence[Item], folder: Path, ffmpeg: Ffmpeg, *, retry_failed: bool = False
) -> State[Item]:
    """Where a plan's cells stand in a folder, which may not exist; nothing is written."""
    answers = answers_of(folder)
    keys = {item.id: answered_key(item, answers, ffmpeg.identity) for item in items}
    return answers.state(items, keys, retry_failed=retry_failed)


def expected_seconds(items: Sequence[Answerable], jobs: int) -> float:
    """Wall seconds for `items` on `jobs` slots."""
    return sum(i.expected_encode_s + i.expected_score_s for i in items) / max(1, jobs)
