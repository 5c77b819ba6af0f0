"""What is measured becomes a row: one builder for cells and for scored pairs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import msgspec
from vmaf_train.contract import FEATURES, feature_set
from vmaf_train.corpus.ids import number
from vmaf_train.corpus.rows import EXTERNAL, FAILED, CellRow, Failure, Row

from vmaftune.cell import Cell, Pair, Tools, Window
from vmaftune.encoders import ENCODERS
from vmaftune.engine.answers import Answers, FrameValues
from vmaftune.engine.folder import now, pool
from vmaftune.engine.metric_rows import of_row, pool_metrics
from vmaftune.engine.stages import MeasuredEncode
from vmaftune.media.encode import encode_argv, paste
from vmaftune.media.failure import CellFailure
from vmaftune.media.further import FurtherRow
from vmaftune.media.libvmaf_log import Frame
from vmaftune.media.prepare import prepare_argv
from vmaftune.media.score import score_argv
from vmaftune.media.score_pair import PairScore, command, pair_argv
from vmaftune.metrics import VMAF

Item = Cell | Pair
# What a frame row repeats of its cell.
_HEAD = ("key", "cell", "src", "encoder", "preset", "crf")


def argv_of(item: Item) -> list[str]:
    """The command that is part of an item's key: a cell's encode, a pair's scoring."""
    if isinstance(item, Pair):
        return pair_argv(item)
    return list(item.kept.argv) if item.kept else encode_argv(item)


def key_of(item: Item, tools: Tools) -> str:
    """The key of an item's row: equal keys mean equal numbers."""
    return item.key(argv_of(item), tools)


def answered_key(item: Item, answers: Answers, tools: Tools) -> str:
    """The key under which a folder answers for `item`: its own, or that of its row with more
    metrics than are asked for, whose other numbers are the same.
    """
    own = key_of(item, tools)
    for mark in answers.finished(item.id):
        if mark.key == own:
            return own
        held = of_row(answers.row(mark).metrics)
        if set(item.metrics) < set(held) and mark.key == key_of(replace(item, metrics=held), tools):
            return mark.key
    return own


def facts(
    item: Item, key: str, tools: Tools, *, device: str | None = None, host: str | None = None
) -> CellRow:
    """The part of a row that is known before anything runs. `device` names GPU and driver, None for
    the CPU; `host` the machine of a cluster.
    """
    window = _window(item)
    known = _cell_facts(item, device) if isinstance(item, Cell) else _pair_facts(item)
    shared = CellRow(
        cell=item.id,
        key=key,
        src=window.name,
        group=window.group,
        src_sha256=window.sha256,
        width=window.width,
        height=window.height,
        pix_fmt=item.pix_fmt,
        fps=window.fps,
        teacher=item.teacher,
        features_of=feature_set(item.teacher),
        ffmpeg_version=tools.ffmpeg_version,
        libvmaf_version=tools.libvmaf_version,
        host=host,
    )
    return msgspec.structs.replace(shared, **known)


def _window(item: Item) -> Window:
    return item.window if isinstance(item, Cell) else item.reference


def _cell_facts(cell: Cell, device: str | None) -> dict[str, object]:
    setting = cell.setting
    kept = cell.kept
    known: dict[str, object] = {
        "flags": tuple(cell.window.flags),
        "encoder": cell.encoder.name,
        "preset": cell.preset,
        "crf": number(cell.quality),
        "rate_control": cell.encoder.rate_control,
        "argv": tuple(argv_of(cell)),
        "threads": cell.threads,
        "device": device,
        "encode_width": setting.size[0] if setting.size else None,
        "encode_height": setting.size[1] if setting.size else None,
        "options": setting.options.name if setting.options else None,
        "maxrate_kbps": setting.maxrate_kbps,
        "bufsize_kbps": setting.bufsize_kbps,
    }
    if kept is None:
        return known
    return known | {
        "device": kept.device,
        "host": kept.host,
        "encode_sha256": kept.sha256,
        "encode_ffmpeg_version": kept.ffmpeg_version,
    }


def _pair_facts(pair: Pair) -> dict[str, object]:
    made, distorted = pair.made, pair.distorted
    known = ENCODERS.get(made.encoder) if made else None
    return {
        "flags": pair.flags,
        "encoder": made.encoder if made else EXTERNAL,
        "preset": made.preset if made else None,
        "crf": number(made.quality) if made else None,
        "rate_control": known.rate_control if known else None,
        "reference": Path(pair.reference.path).name,
        "distorted": Path(distorted.path).name,
        "distorted_sha256": distorted.sha256,
        "distorted_width": distorted.width,
        "distorted_height": distorted.height,
        "distorted_pix_fmt": distorted.pix_fmt,
    }


def ok_row(row: CellRow, item: Item, found: MeasuredEncode | PairScore) -> CellRow:
    """A finished row, from its facts and what was measured."""
    if isinstance(found, PairScore):
        assert isinstance(item, Pair)
        frames, further = found.frames, found.further
        more = _pair_numbers(row, item, found)
    else:
        assert isinstance(item, Cell)
        frames, further = found.score.frames, found.score.further
        more = _cell_numbers(row, item, found)
    numbers = {**pool(frames), **more, "num_frames": len(frames), "finished_at": now()}
    metrics = pool_metrics(item.metrics, columns_of(further))
    return msgspec.structs.replace(row, **numbers, metrics=metrics)


def columns_of(further: Sequence[FurtherRow]) -> dict[str, tuple[float | None, ...]]:
    """What the frames hold of metrics beside VMAF, by column."""
    names = further[0] if further else ()
    return {name: tuple(row[name] for row in further) for name in names}


def _cell_numbers(row: CellRow, cell: Cell, found: MeasuredEncode) -> dict[str, object]:
    """`size_bytes` is the video stream's packets; kbps from those, the frames and their rate."""
    made, score = found.made, found.score
    seconds = len(score.frames) / cell.window.frame_rate
    ran = made.rate_control.lower() if made.rate_control else row.rate_control
    changed = ran != row.rate_control
    return {
        "encoder_version": made.encoder_version,
        "rate_control": ran,
        "flags": (*row.flags, "rate_control_changed") if changed else row.flags,
        "size_bytes": score.distorted.num_bytes,
        "bitrate_kbps": float(score.distorted.num_bytes * 8 / 1000 / seconds),
        "encode_wall_s": _seconds(made.wall_s),
        "encode_cpu_s": _seconds(made.cpu_s),
        "score_cpu_s": _seconds(score.cpu_s),
        "scorer": score.scorer,
        "scorer_difference": score.difference,
    }


def _pair_numbers(row: CellRow, pair: Pair, found: PairScore) -> dict[str, object]:
    """A raw file has no bitrate but the one in its name, and a window of a file none at all."""
    is_file = pair.distorted.raw is None and pair.distorted.num_frames is None
    num_bytes = found.distorted.num_bytes if is_file else None
    kbps = pair.kbps
    if num_bytes is not None:
        # of two files that are offset to each other not all frames are scored
        num_frames = found.distorted.num_frames if pair.offset else len(found.frames)
        kbps = float(num_bytes * 8 / 1000 / (num_frames / pair.distorted.frame_rate))
    return {
        "flags": (*row.flags, *found.alignment.flags),
        "size_bytes": num_bytes,
        "bitrate_kbps": kbps,
        "score_cpu_s": _seconds(found.cpu_s),
        "scorer": "cpu",
        "alignment": found.alignment.row(),
    }


def _seconds(value: float | None) -> float | None:
    return None if value is None else round(value, 4)


def failed_row(row: CellRow, failure: CellFailure, command: str) -> CellRow:
    """A failed row: why, the exit code, the end of stderr, and commands that can be pasted."""
    error = Failure(
        kind=failure.kind,
        message=str(failure),
        exit_code=failure.exit_code,
        stderr_tail=failure.stderr_tail,
        command=command,
    )
    return msgspec.structs.replace(row, status=FAILED, finished_at=now(), error=error)


def command_of(item: Item, ffmpeg: str, address: str | None) -> str:
    """What to paste to see an item fail again; `address` is the GPU that encoded it."""
    if isinstance(item, Pair):
        return command(item, ffmpeg)
    return paste(
        ffmpeg,
        prepare_argv(item.window),
        encode_argv(item, address),
        score_argv(item),
        src=item.window.path,
        ref="reference.yuv",
        out="encode.mkv",
    )


def frame_rows(row: CellRow, found: MeasuredEncode | PairScore) -> list[Row]:
    """The frame rows of a finished row."""
    frames: Sequence[Frame] = found.frames if isinstance(found, PairScore) else found.score.frames
    extras = [further_of(found)]
    if isinstance(found, PairScore):
        extras.append(found.extra)
    head = {name: getattr(row, name) for name in _HEAD}
    rows = [{**head, **_frame(frame)} for frame in frames]
    for extra in extras:
        if extra:
            rows = [{**one, **more} for one, more in zip(rows, extra, strict=True)]
    return rows


def further_of(found: MeasuredEncode | PairScore) -> Sequence[FurtherRow]:
    """The columns of metrics beside VMAF, per frame; empty where none were asked for."""
    return found.further if isinstance(found, PairScore) else found.score.further


def frame_values(found: MeasuredEncode | PairScore) -> FrameValues:
    """The clipped VMAF of every frame in order, and the columns of metrics beside it."""
    frames: Sequence[Frame] = found.frames if isinstance(found, PairScore) else found.score.frames
    return {VMAF: tuple(frame.vmaf for frame in frames), **columns_of(further_of(found))}


def _frame(frame: Frame) -> Row:
    return {
        "frame_index": frame.index,
        "vmaf": frame.vmaf,
        "vmaf_unclipped": frame.vmaf_unclipped,
        **dict(zip(FEATURES, frame.features, strict=True)),
    }
