"""Run the pairs of a plan into a run folder: the same rows, key, resume, lock and executor as a
sweep of encodes.
"""

from __future__ import annotations

import shutil
from collections.abc import Generator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from vmaf_train.contract import feature_set

from vmaftune.cell import EXTERNAL, SCHEMA_VERSION, Pair, Tools
from vmaftune.encoders import ENCODERS
from vmaftune.engine.folder import failed_row, frame_rows, now, number, pool, write_table
from vmaftune.engine.lanes import CPU, Ended, LaneExecutor, Stage, Task
from vmaftune.engine.study import Event, Options, Run, State, standing
from vmaftune.media.ffmpeg import Ffmpeg
from vmaftune.media.score_pair import PairScore, command, pair_argv, score_pair
from vmaftune.questions.pairs import PairPlan


def state(plan: PairPlan, folder: Path, tools: Tools, *, retry_failed: bool = False) -> State[Pair]:
    """Compare a plan's pairs with the rows of its folder, by key."""
    keys = {pair.id: pair.key(pair_argv(pair), tools) for pair in plan.pairs}
    return standing(plan.pairs, keys, folder, retry_failed=retry_failed)


def facts(pair: Pair, key: str, tools: Tools) -> dict[str, Any]:
    """The part of a pair's row that is known before it is scored: a cell row, with null where
    nothing was encoded.
    """
    made, reference, distorted = pair.made, pair.reference, pair.distorted
    known = ENCODERS.get(made.encoder) if made else None
    return {
        "schema_version": SCHEMA_VERSION,
        "cell": pair.id,
        "key": key,
        "status": "ok",
        "flags": list(pair.flags),
        "src": reference.name,
        "group": reference.group,
        "src_sha256": reference.sha256,
        "width": reference.width,
        "height": reference.height,
        "pix_fmt": pair.pix_fmt,
        "fps": reference.fps,
        "num_frames": None,
        "encoder": made.encoder if made else EXTERNAL,
        "encoder_version": None,
        "preset": made.preset if made else None,
        "crf": number(made.quality) if made else None,
        "rate_control": known.rate_control if known else None,
        "argv": None,
        "threads": None,
        "size_bytes": None,
        "bitrate_kbps": None,
        "encode_wall_s": None,
        "encode_cpu_s": None,
        "score_cpu_s": None,
        "vmaf_score": None,
        "vmaf_harmonic_mean": None,
        "vmaf_min": None,
        "vmaf_p5": None,
        "per_frame_features": None,
        "teacher": pair.teacher,
        "features_of": feature_set(pair.teacher),
        "ffmpeg_version": tools.ffmpeg_version,
        "libvmaf_version": tools.libvmaf_version,
        "device": None,
        "finished_at": None,
        "error": None,
        "reference": Path(reference.path).name,
        "distorted": Path(distorted.path).name,
        "distorted_sha256": distorted.sha256,
        "distorted_width": distorted.width,
        "distorted_height": distorted.height,
        "distorted_pix_fmt": distorted.pix_fmt,
        "alignment": None,
    }


def ok_row(row: Mapping[str, Any], pair: Pair, score: PairScore) -> dict[str, Any]:
    """A scored pair's row. A raw file has no bitrate but the one in its name."""
    num_bytes = None if pair.distorted.raw else score.distorted.num_bytes
    kbps = pair.kbps
    if num_bytes is not None:
        kbps = float(num_bytes * 8 / 1000 / (len(score.frames) / pair.distorted.frame_rate))
    return {
        **row,
        **pool(score.frames),
        "num_frames": len(score.frames),
        "size_bytes": num_bytes,
        "bitrate_kbps": kbps,
        "score_cpu_s": None if score.cpu_s is None else round(score.cpu_s, 4),
        "finished_at": now(),
        "flags": [*row["flags"], *score.alignment.flags],
        "alignment": score.alignment.row(),
    }


class PairRun(Run[Pair]):
    """A run that scores pairs."""

    def __init__(self, plan: PairPlan, folder: Path, ffmpeg: Ffmpeg, options: Options) -> None:
        super().__init__(
            plan.pairs,
            state(plan, folder, ffmpeg.identity, retry_failed=options.retry_failed),
            plan.notices,
            folder,
            ffmpeg,
            options,
            LaneExecutor({CPU: options.jobs}),
        )
        self._full = any(pair.features == "full" for pair in plan.pairs)

    def run(self, argv: Sequence[str]) -> Generator[Event, None, None]:
        """See Run.run; the table of the full set is made before `end`."""
        for event in super().run(argv):
            if event["event"] == "end" and self._full:
                write_table(self._folder)
            yield event

    def _check_room(self, left: Sequence[Pair]) -> None:
        """Nothing is decoded to the disk."""

    def _tasks(self, left: Sequence[Pair]) -> list[Task]:
        return [
            Task(
                id=p.id,
                stages=(
                    Stage(
                        name="score",
                        lane=CPU,
                        cost_s=p.expected_score_s,
                        run=partial(self._score, p),
                    ),
                ),
            )
            for p in left
        ]

    def _score(self, pair: Pair, _: None) -> PairScore:
        place = self._place(pair)
        place.mkdir()
        return score_pair(pair, self._ffmpeg, place, self._timeout(pair.expected_score_s))

    def _finish(self, cell: Pair, ended: Ended) -> Event:
        failure = self._failure(ended)
        row = facts(cell, self.state.keys[cell.id], self._ffmpeg.identity)
        if failure is None:
            score: PairScore = ended.value
            frames = frame_rows(row, score.frames)
            if score.extra:
                frames = [
                    {**frame, **more} for frame, more in zip(frames, score.extra, strict=True)
                ]
            row = ok_row(row, cell, score)
            self._writer.append(row, frames)
        else:
            row = failed_row(row, failure, command(cell, self._ffmpeg.path))
            self._writer.append(row)
        shutil.rmtree(self._place(cell), ignore_errors=True)
        return self._told(cell, row)
