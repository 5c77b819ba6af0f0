"""The steps of a cell and of a scored pair: functions of frozen values and of the worker that runs
them.

A worker is one machine's scratch folder, its prepared references and its ffmpeg. Whatever a stage
is bound to and returns can be pickled, and so can its error.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from vmaf_train.corpus.rows import FailureKind

from vmaftune.cell import Cell, Pair, Raw, Window
from vmaftune.costs import longest_prepare_s, prepare_s
from vmaftune.engine.executor import CPU, Stage, Step, Task
from vmaftune.engine.limits import Limits
from vmaftune.engine.references import References
from vmaftune.hardware.diagnosis import Reason, classify
from vmaftune.hardware.gpus import Device
from vmaftune.hardware.selection import lane_name
from vmaftune.media.content import content_sha256
from vmaftune.media.encode import Encode, encode
from vmaftune.media.failure import CellFailure
from vmaftune.media.ffmpeg import Ffmpeg
from vmaftune.media.prepare import prepare
from vmaftune.media.score import Score, score
from vmaftune.media.score_cuda import LANE, GpuScorer, eligible
from vmaftune.media.score_pair import PairScore, score_pair


class Worker:
    """What a machine needs to run stages: a folder to work in, references, an ffmpeg, and the GPU
    that scores, if one does.
    """

    def __init__(
        self,
        folder: Path,
        ffmpeg: Ffmpeg,
        *,
        budget_bytes: int,
        limits: Limits,
        scorer: GpuScorer | None = None,
    ) -> None:
        self.folder, self.ffmpeg, self.limits, self.scorer = folder, ffmpeg, limits, scorer
        self.devices: Mapping[str, Device] = {}
        """The GPU of a kind of encoder, for cells whose client does not name one."""
        self.references = References(folder, budget_bytes, self._make)

    def _make(self, window: Window, path: Path) -> int:
        last = window.first_frame + (window.num_prepared or window.expected_frames)
        expected_s = longest_prepare_s(last)
        return prepare(window, self.ffmpeg, path, self.limits.of(expected_s))

    def place(self, name: str) -> Path:
        """The folder of one cell, made if need be."""
        folder = self.folder / name
        folder.mkdir(exist_ok=True)  # it exists when a session was refused before
        return folder

    def clear(self, name: str) -> None:
        """Remove the folder of one cell."""
        shutil.rmtree(self.folder / name, ignore_errors=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class CellWork:
    """A cell to measure. `place` names its folder; `device` is the GPU that encodes it, None for
    the CPU or ffmpeg's own choice.
    """

    cell: Cell
    place: str
    device: Device | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class PairWork:
    """A pair to score with `num_threads`. `place` names its folder."""

    pair: Pair
    place: str
    num_threads: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Encoded:
    """A cell's encode on its way to the scoring, and the GPU that made it."""

    made: Encode
    device: Device | None


@dataclass(frozen=True, slots=True, kw_only=True)
class MeasuredEncode:
    """A cell's result on its way to the writer."""

    made: Encode
    device: Device | None
    score: Score


def prepare_stage(window: Window, worker: Worker, _: None) -> None:
    """Make a window's reference. A failure is kept for the cells that need it."""
    try:
        with worker.references.hold(window):
            pass
    except CellFailure:
        pass


def encode_stage(work: CellWork, worker: Worker, _: None) -> Encoded:
    """Encode a cell. Raises CellFailure, also when its window cannot be prepared."""
    cell, kind = work.cell, work.cell.encoder.kind
    device = work.device or (worker.devices.get(kind) if kind else None)
    with worker.references.hold(cell.window) as reference:
        made = encode(
            cell,
            worker.ffmpeg,
            reference.path,
            worker.place(work.place) / "out.mkv",
            reference.num_frames,
            worker.limits.of(cell.expected_encode_s),
            device.address if device else None,
        )
    return Encoded(made=made, device=device)


def score_stage(work: CellWork, worker: Worker, encoded: Encoded) -> MeasuredEncode:
    """Score an encoded cell. Raises CellFailure."""
    cell, made = work.cell, encoded.made
    run = worker.scorer.score if worker.scorer else score
    with worker.references.hold(cell.window) as reference:
        found = run(
            cell,
            worker.ffmpeg,
            reference.path,
            made.path,
            reference.num_frames,
            worker.limits.of(cell.expected_score_s),
        )
    return MeasuredEncode(made=made, device=encoded.device, score=found)


def kept_stage(work: CellWork, worker: Worker, _: None) -> MeasuredEncode:
    """Score an encode that was made before. Raises CellFailure, also when it is not that file."""
    kept = work.cell.kept
    assert kept is not None
    source = Path(kept.path).absolute()
    try:
        sha256 = content_sha256(source)
    except OSError as failure:
        raise CellFailure(
            FailureKind.ENCODE_CHANGED,
            f"the kept encode {source} cannot be read ({failure.strerror})",
        ) from failure
    if sha256 != kept.sha256:
        raise CellFailure(
            FailureKind.ENCODE_CHANGED,
            f"{source} is not the encode that was measured: its digest is another one; encode that"
            " cell again with --keep-encodes",
        )
    place = worker.place(work.place) / "out.mkv"
    place.unlink(missing_ok=True)
    try:
        place.symlink_to(source)
    except OSError:  # not every file system has links
        shutil.copyfile(source, place)
    made = Encode(
        path=place,
        wall_s=kept.wall_s,
        cpu_s=kept.cpu_s,
        encoder_version=kept.encoder_version,
        rate_control=kept.rate_control,
    )
    return score_stage(work, worker, Encoded(made=made, device=None))


def pair_stage(work: PairWork, worker: Worker, _: None) -> PairScore:
    """Score a pair of files, or of windows of files. Raises CellFailure."""
    pair, place = work.pair, worker.place(work.place)
    timeout_s = worker.limits.of(pair.expected_score_s)
    if pair.reference.num_frames is None:
        return score_pair(pair, worker.ffmpeg, place, timeout_s, work.num_threads)
    cut = place / "distorted.yuv"
    seconds = longest_prepare_s(pair.distorted.start_frame + pair.distorted.expected_frames)
    with worker.references.hold(pair.reference) as reference:
        prepare(pair.distorted, worker.ffmpeg, cut, worker.limits.of(seconds))
        raw = replace(
            pair,
            reference=_as_raw(pair.reference, reference.path),
            distorted=_as_raw(pair.distorted, cut),
        )
        return score_pair(raw, worker.ffmpeg, place, timeout_s, work.num_threads)


def _as_raw(window: Window, prepared: Path) -> Window:
    """The file of a prepared window as a headerless clip."""
    layout = Raw(width=window.width, height=window.height, fps=window.fps, pix_fmt=window.pix_fmt)
    return replace(
        window,
        path=str(prepared),
        raw=layout,
        stream_index=0,
        start_frame=0,
        num_frames=None,
        crop=None,
        scale=None,
        deinterlace=False,
        seek=None,
        every=1,
    )


def session_refused(error: Exception) -> bool:
    """True when the driver had no NVENC session left: the cell is done again on fewer."""
    return isinstance(error, CellFailure) and classify(error.stderr_tail).reason is Reason.SESSIONS


def prepare_task(window: Window, name: str) -> Task:
    """The task that makes a window's reference before its cells."""
    seconds = prepare_s(window.num_prepared or window.expected_frames)
    stage = Stage(name="prepare", lane=CPU, cost_s=seconds, run=partial(prepare_stage, window))
    return Task(id=name, first=True, stages=(stage,), window=window)


def lanes_of(cell: Cell, devices: tuple[Device | None, ...]) -> dict[str, Device | None]:
    """The lanes that can encode a cell, with the device of each."""
    kind = cell.encoder.kind
    return {lane_name(kind, device): device for device in devices} if kind else {CPU: None}


def cell_task(
    cell: Cell,
    place: str,
    devices: tuple[Device | None, ...] = (None,),
    *,
    gpu_scores: bool,
    keep: bool = False,
) -> Task:
    """A cell as a task: encode it on one of `devices`, then score it."""
    if cell.kept is not None:
        return _kept_task(cell, place)
    runs: dict[str, Step] = {
        lane: partial(encode_stage, CellWork(cell=cell, place=place, device=device))
        for lane, device in lanes_of(cell, devices).items()
    }
    first, *others = runs
    encoding = Stage(
        name="encode",
        lane=first,
        cost_s=cell.expected_encode_s,
        run=runs[first],
        others={lane: runs[lane] for lane in others},
        refused=session_refused if cell.encoder.kind == "nvenc" else None,
    )
    scoring = Stage(
        name="score",
        lane=LANE if gpu_scores and eligible(cell) else CPU,
        cost_s=cell.expected_score_s,
        run=partial(score_stage, CellWork(cell=cell, place=place)),
    )
    return Task(
        id=cell.id,
        stages=(encoding, scoring),
        window=cell.window,
        place=place,
        uses=cell.encoder.name,
        keep=keep,
    )


def _kept_task(cell: Cell, place: str) -> Task:
    """A cell whose encode was kept: score it, on the CPU."""
    stage = Stage(
        name="score",
        lane=CPU,
        cost_s=cell.expected_score_s,
        run=partial(kept_stage, CellWork(cell=cell, place=place)),
    )
    return Task(id=cell.id, stages=(stage,), window=cell.window, place=place)


def pair_task(pair: Pair, place: str, num_threads: int = 1) -> Task:
    """A pair as a task: score it. Files are read as they are; of windows both are prepared."""
    stage = Stage(
        name="score",
        lane=CPU,
        cost_s=pair.expected_score_s,
        run=partial(pair_stage, PairWork(pair=pair, place=place, num_threads=num_threads)),
    )
    return Task(id=pair.id, stages=(stage,), place=place)
