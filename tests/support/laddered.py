"""A folder that a ladder measured, forged: two encoders, a fixed ladder, files of one of them."""

from __future__ import annotations

from pathlib import Path

import asked
from vmaftune.engine.events import (
    HullPoint,
    LadderCrossing,
    LadderEvent,
    LadderFile,
    LadderFilesEvent,
    LadderFixed,
    LadderRung,
    to_json,
)
from vmaftune.engine.folder import Writer

POINTS = (
    (1920, 1080, 24, 96.0, 4000.0),
    (1920, 1080, 34, 80.0, 1100.0),
    (1280, 720, 24, 88.0, 1800.0),
    (1280, 720, 34, 70.0, 500.0),
)


def write(folder: Path, *, film: str = asked.FILM, files: bool = True) -> Path:
    """A question about `film`, a ladder with each of two encoders, and the files of the second."""
    asked.write(folder, film=film)
    writer = Writer(folder)
    writer.note([to_json(ladder(film, "libsvtav1", "5", 0.7, stale=True))])
    writer.note([to_json(ladder(film, "libx264", "slow", 1.0))])
    writer.note([to_json(ladder(film, "libsvtav1", "5", 0.7))])
    if files:
        writer.note([to_json(made(film))])
    return folder


def ladder(
    film: str, encoder: str, preset: str, factor: float, *, stale: bool = False
) -> LadderEvent:
    """A ladder whose bitrates are `factor` times those above."""
    points = [
        HullPoint(width=w, height=h, quality=q, score=score, kbps=kbps * factor)
        for w, h, q, score, kbps in POINTS
    ]
    rungs = [] if stale else [rung(points[0]), rung(points[2]), rung(points[3])]
    return LadderEvent(
        film=film,
        encoder=encoder,
        preset=preset,
        statistic="mean",
        width=1920,
        height=1080,
        num_windows=8,
        num_encodes=len(points),
        num_rung_encodes=3,
        num_fixed_encodes=1,
        rungs=rungs,
        hull=points,
        sentences=["12% of the bits are saved at equal VMAF, on average"],
        asked_at="2026-11-21T00:00:00Z",
        points=points,
        curve=[(p.kbps, p.score) for p in sorted(points, key=lambda p: p.score)],
        crossings=[
            LadderCrossing(
                width=1920,
                height=1080,
                below_width=1280,
                below_height=720,
                score=86.4,
                kbps=1500 * factor,
            )
        ],
        fixed=[
            LadderFixed(
                width=1920,
                height=1080,
                quality=30,
                score=90.0,
                kbps=3000.0,
                hull_kbps=2000 * factor,
                saved=1 - 2000 * factor / 3000,
            ),
            LadderFixed(
                width=1280, height=720, quality=40, score=40, kbps=300, hull_kbps=None, saved=None
            ),
        ],
    )


def rung(point: HullPoint) -> LadderRung:
    """A point as it ships."""
    return LadderRung(
        width=point.width,
        height=point.height,
        frame_rate=24.0,
        quality=point.quality,
        score=point.score,
        standard_error=0.3,
        kbps=point.kbps,
        maxrate_kbps=round(1.5 * point.kbps),
        bufsize_kbps=round(3 * point.kbps),
        command=f"ffmpeg -i film.mkv -crf {point.quality:g} out.mp4",
        playlist=f"#EXT-X-STREAM-INF:BANDWIDTH={round(1500 * point.kbps)}",
    )


def made(film: str) -> LadderFilesEvent:
    """The files of the second ladder."""
    rungs = ladder(film, "libsvtav1", "5", 0.7).rungs
    return LadderFilesEvent(
        film=film,
        encoder="libsvtav1",
        preset="5",
        playlist="out/main.m3u8",
        files=[
            LadderFile(
                path=f"out/{one.width}x{one.height}.mp4",
                width=one.width,
                height=one.height,
                frame_rate=24.0,
                size_bytes=1000,
                kbps=one.kbps + 1,
                peak_kbps=one.kbps * 1.2,
                score=one.score + 0.11,
                standard_error=0.3,
                foretold=one.score,
                codec="av01.0.08M.08",
                num_keyframes=10,
            )
            for one in rungs
        ],
        sounds=["out/audio-1.mp4"],
        sentences=[],
    )
