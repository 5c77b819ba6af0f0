"""The questions that a run folder was measured for, as questions.jsonl keeps them."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import msgspec
from vmaf_train.corpus.rows import QUESTIONS, bad_line, lines

from vmaftune.engine.events import (
    AnswerEvent,
    Asked,
    LadderEvent,
    LadderFilesEvent,
    ProbeEvent,
    QuestionEvent,
)
from vmaftune.report.cells import MeasuredCell
from vmaftune.report.frames import FrameScores
from vmaftune.report.sweep import Answered, FilmQuestion, ToldLadder, WindowScore

_START = re.compile(r".+@(\d{2,}):(\d{2}):(\d{2}\.\d{3})(?:\+\d+)?")
_STRETCH_S = 2.0
"""A window that is longer than two of these is shown in stretches of this length."""

_Same = tuple[str, str, str, str, int]
"""Film, encoder, preset, statistic and lines scored: what a later ladder takes the place of."""


@dataclass(slots=True)
class Group:
    """What was told of one question."""

    asked: QuestionEvent
    probes: list[ProbeEvent] = field(default_factory=list)
    answers: list[AnswerEvent] = field(default_factory=list)


def read_questions(
    folder: Path, cells: Sequence[MeasuredCell], frames: Mapping[str, FrameScores]
) -> tuple[FilmQuestion, ...]:
    """The questions of a folder, oldest first; none where it was not measured for any. `cells` and
    `frames` are the folder's. Raises as `read_groups`.
    """
    return tuple(
        FilmQuestion(
            asked=group.asked,
            probes=tuple(group.probes),
            answers=tuple(_answered(told, cells, frames) for told in group.answers),
        )
        for group in read_groups(folder)
    )


def read_ladders(folder: Path) -> tuple[ToldLadder, ...]:
    """The ladders of a folder, oldest first: of each film, encoder, preset and size the last one.
    Raises as `read_questions`.
    """
    found: dict[_Same, ToldLadder] = {}
    for told in _told(folder):
        if isinstance(told, LadderEvent):
            at: _Same = (told.film, told.encoder, told.preset, told.statistic, told.height)
            found.pop(at, None)  # the last one is also the last in order
            found[at] = ToldLadder(told=told)
        elif found and isinstance(told, LadderFilesEvent):
            last = list(found)[-1]  # files are made right after their ladder
            found[last] = replace(found[last], files=told)
    return tuple(found.values())


def _told(folder: Path) -> Iterator[Asked]:
    for number, row in lines(folder / QUESTIONS):
        yield _typed(folder / QUESTIONS, number, row)


def read_groups(folder: Path) -> list[Group]:
    """What the folder keeps of every question, oldest first. Raises DatasetError naming file and
    line of one that vmaf-tune did not write.
    """
    groups: list[Group] = []
    for told in _told(folder):
        if isinstance(told, QuestionEvent):
            groups.append(Group(asked=told))
        elif groups and isinstance(told, ProbeEvent):
            groups[-1].probes.append(told)
        elif groups and isinstance(told, AnswerEvent):
            groups[-1].answers.append(told)
    return groups


def _typed(file: Path, number: int, row: Mapping[str, object]) -> Asked:
    try:
        told: Asked = msgspec.convert(row, Asked)
    except msgspec.ValidationError as failure:
        raise bad_line(
            file, number, f"is not a question, probe, answer or ladder: {failure}"
        ) from failure
    return told


def _answered(
    told: AnswerEvent, cells: Sequence[MeasuredCell], frames: Mapping[str, FrameScores]
) -> Answered:
    windows: list[WindowScore] = []
    joined = frozenset(told.cells)
    for cell in cells if told.is_measured else ():
        setting = (cell.row.encoder, cell.row.preset, cell.quality)
        is_meant = setting == (told.encoder, told.preset, told.quality) or cell.row.cell in joined
        if cell.drawable and is_meant:
            windows += _stretches(cell, frames.get(cell.row.key))
    return Answered(told=told, windows=tuple(sorted(windows, key=lambda w: w.start_s)))


def _stretches(cell: MeasuredCell, scores: FrameScores | None) -> list[WindowScore]:
    """A window as one stretch, a long one as several."""
    if scores is None or not len(scores.clipped) or not cell.fps:
        return []
    clipped, start = scores.clipped, _start_s(cell.row.src)
    length = max(1, round(_STRETCH_S * cell.fps))
    if len(clipped) < 2 * length:
        length = len(clipped)
    return [
        WindowScore(
            start_s=start + at / cell.fps,
            mean=float(clipped[at : at + length].mean()),
            lowest=float(clipped[at : at + length].min()),
        )
        for at in range(0, len(clipped), length)
    ]


def _start_s(name: str) -> float:
    """Where a window begins, from its name; 0 for a whole film."""
    found = _START.fullmatch(name)
    if found is None:
        return 0.0
    hours, minutes, seconds = found.groups()
    return int(hours) * 3600 + int(minutes) * 60 + float(seconds)
