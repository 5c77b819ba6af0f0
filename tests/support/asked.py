"""A folder that a question measured: eight windows of a film, forged rows, and what was told."""

from __future__ import annotations

from pathlib import Path

from forged import measured
from vmaf_train.corpus.rows import QUESTIONS
from vmaftune.engine.events import AnswerEvent, ForetoldCurve, ProbeEvent, QuestionEvent, to_json
from vmaftune.engine.folder import Writer

FILM = "films/<b>a film</b>.mkv"
WINDOWS = 8
PROBES = (
    ("libx264", "fast", 26, 94.0),
    ("libx264", "fast", 28, 91.5),
    ("libx264", "fast", 27, 93.2),
    ("libsvtav1", "10", 35, 93.4),
)
QUALITY = [24.0, 25.0, 26.0, 27.0, 28.0, 29.0, 30.0]


def write(folder: Path, *, film: str = FILM) -> Path:
    """A question about `film` that was answered, and another one that was stopped."""
    folder.mkdir(parents=True)
    writer = Writer(folder)
    for encoder, preset, quality, score in PROBES:
        for number in range(WINDOWS):
            name = f"film@00:01:{10 + 2 * number:02d}.500+2/{encoder}/{preset}/{quality}"
            found = score - 1 + 0.25 * number
            writer.append(*measured(name, [found, found + 0.25], group="film"))
    writer.note([to_json(question(film)), to_json(probe(0))])
    writer.note([to_json(probe(number)) for number in range(1, len(PROBES))])
    writer.note([to_json(answer(film, 2)), to_json(answer(film, 3)), to_json(foretold(film))])
    writer.note([to_json(question(film, target=99)), to_json(probe(0))])
    return folder


def question(film: str = FILM, target: float = 93) -> QuestionEvent:
    """What was asked."""
    return QuestionEvent(
        film=film,
        target=target,
        statistic="mean",
        stop="proven",
        encoders=["libx264 fast", "libsvtav1 10"],
        asked_at="2026-11-21T00:00:00Z",
    )


def probe(number: int) -> ProbeEvent:
    """The probe of that number."""
    encoder, preset, quality, score = PROBES[number]
    brackets = ((26, None), (26, 28), (27, 28), (35, None))
    return ProbeEvent(
        encoder=encoder,
        preset=preset,
        quality=quality,
        statistic="mean",
        score=score,
        standard_error=0.4,
        kbps=200.0,
        num_windows=WINDOWS,
        num_frames=2 * WINDOWS,
        encode_cpu_s=4.0,
        meets=score >= 93,
        bracket=brackets[number],
    )


def answer(film: str, number: int) -> AnswerEvent:
    """An answer that the probe of that number gave."""
    encoder, preset, quality, score = PROBES[number]
    mine = [p for p in PROBES if p[0] == encoder]
    curve = ForetoldCurve(
        quality=QUALITY,
        score=[100 - (q - 20) for q in QUALITY],
        low=[99 - (q - 20) for q in QUALITY],
        high=[101 - (q - 20) for q in QUALITY],
    )
    return AnswerEvent(
        film=film,
        encoder=encoder,
        preset=preset,
        target=93,
        statistic="mean",
        is_met=True,
        is_measured=True,
        quality=quality,
        score=score,
        interval=(score - 0.8, score + 0.8),
        kbps=200.0,
        kbps_interval=None,
        size_bytes=1000,
        stop="proven",
        bracket=(quality, quality + 1),
        confidence=1.0,
        num_encodes=len(mine),
        num_windows=WINDOWS,
        encode_cpu_s=4.0,
        sentences=(f"{quality} meets it",),
        command="ffmpeg -i film.mkv out.mkv",
        curve=curve,
        measured=[(q, s, 0.4) for _, _, q, s in sorted(mine, key=lambda p: p[2])],
    )


def foretold(film: str) -> AnswerEvent:
    """An answer that was not measured."""
    return AnswerEvent(
        film=film,
        encoder="libx265",
        preset="slow",
        target=93,
        statistic="mean",
        is_met=True,
        is_measured=False,
        quality=25,
        score=93.1,
        interval=None,
        kbps=180.0,
        kbps_interval=(150.0, 220.0),
        size_bytes=900,
        stop=None,
        bracket=(None, None),
        confidence=None,
        num_encodes=0,
        num_windows=0,
        encode_cpu_s=None,
        sentences=("foretold, not measured",),
        command=None,
        curve=None,
    )


def tear(folder: Path) -> None:
    """Leave half a line, as a process that was killed inside an append does."""
    with (folder / QUESTIONS).open("ab") as file:
        file.write(b'{"event": "probe", "enc')
