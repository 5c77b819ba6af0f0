"""Score a pair of files: one command, and what must hold before its numbers count.

Both files are decoded once. libvmaf, the errors at five offsets and a count of either clip come
from the same pass.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

from vmaf_train.corpus.rows import FailureKind

from vmaftune.cell import Pair, Window
from vmaftune.media import alignment
from vmaftune.media.alignment import OFFSETS, ROLES, Alignment
from vmaftune.media.encode import COMMON, FILTER_THREADS, ONLY_FILES, TO_NOWHERE, check, fill, paste
from vmaftune.media.failure import CellFailure
from vmaftune.media.ffmpeg import Ffmpeg
from vmaftune.media.further import XPSNR_LOG, FurtherRow, extractors
from vmaftune.media.libvmaf_log import LOG, Frame, log_text, parse_log
from vmaftune.media.metrics import EXTRACTORS, parse_extra
from vmaftune.media.model_file import NAME
from vmaftune.media.process import Finished
from vmaftune.media.score import (
    Decoded,
    changed_inputs,
    further_rows,
    libvmaf_filter,
    pads,
    parse_inputs,
)
from vmaftune.metrics import neg_of

# Sizes are whole pixels, so a scaled clip's shape is off by a little: 2% is 10 lines of 540.
SHAPE_TOLERANCE = 0.02


@dataclass(frozen=True, slots=True, kw_only=True)
class PairScore:
    """A scored pair. `extra` holds the full set's further features per frame, `further` the columns
    of its other metrics; both are empty where they were not asked for.
    """

    frames: tuple[Frame, ...]
    extra: tuple[Mapping[str, float | None], ...]
    alignment: Alignment
    distorted: Decoded
    cpu_s: float | None
    further: tuple[FurtherRow, ...] = ()


def _input(source: Window, place: str, num_threads: int) -> list[str]:
    raw, threads = source.raw, str(num_threads)
    if raw is None:
        return [*ONLY_FILES, "-threads", threads, "-i", f"file:{{{place}}}"]
    size = f"{raw.width}x{raw.height}"
    return [
        *ONLY_FILES,
        "-f",
        "rawvideo",
        "-pixel_format",
        raw.pix_fmt,
        "-video_size",
        size,
        "-framerate",
        source.fps,
        "-threads",
        threads,
        "-i",
        f"file:{{{place}}}",
    ]


def _trims(pair: Pair) -> tuple[str, str]:
    """What cuts the distorted clip and the reference to the frames that both have."""
    if not pair.offset:
        return "", ""
    first, second = pair.starts
    cuts = (f"trim=start_frame={at}:end_frame={at + pair.num_frames}," for at in (second, first))
    distorted, reference = cuts
    return distorted, reference


def pair_argv(pair: Pair, num_threads: int = 1) -> list[str]:
    """The command that scores `{dis}` against `{ref}` and writes its logs into its working folder.

    Either clip also goes to an output of its own: a filter that ends with the shorter one must not
    hide the rest. `num_threads` changes no number, and the text with 1 is in the pair's key.
    """
    graph = ";".join(
        (
            pads(
                pair.pix_fmt,
                pair.color,
                scale=pair.scale,
                reference_scale=pair.reference_scale,
                trims=_trims(pair),
                distorted=f"0:{pair.distorted.stream_index}",
                reference=f"1:{pair.reference.stream_index}",
            ),
            *_scored(pair, num_threads),
            alignment.graph("d_align", "r_align", pair.num_frames),
        )
    )
    ends = ("[scored]", "[d_all]", "[r_all]", *(["[weighted]"] if "xpsnr" in pair.metrics else []))
    return [
        *COMMON,
        "-v",
        "verbose",
        "-y",
        *FILTER_THREADS,
        *_input(pair.distorted, "dis", num_threads),
        *_input(pair.reference, "ref", num_threads),
        "-lavfi",
        graph,
        *(word for end in ends for word in ("-map", end)),
        *TO_NOWHERE,
    ]


def _scored(pair: Pair, num_threads: int) -> list[str]:
    """The part of the graph that scores, and sends either clip on to where else it is needed."""
    asked = extractors(pair.metrics)
    names = {name.partition(":")[0] for name in asked}
    extra = EXTRACTORS if pair.features == "full" else ()
    scoring = libvmaf_filter(
        f"version={pair.teacher}" if pair.model_file is None else f"path={NAME}",
        num_threads,
        extra_features=(*(name for name in extra if name not in names), *asked),
        neg=neg_of(pair.teacher) if "neg" in pair.metrics else None,
    )
    if "xpsnr" not in pair.metrics:
        return [
            "[distorted]split=3[d_score][d_align][d_all]",
            "[reference]split=3[r_score][r_align][r_all]",
            f"[d_score][r_score]{scoring}[scored]",
        ]
    return [
        "[distorted]split=4[d_score][d_align][d_all][d_weigh]",
        "[reference]split=4[r_score][r_align][r_all][r_weigh]",
        f"[d_score][r_score]{scoring}[scored]",
        # the original comes first: its activity is what weighs errors
        f"[r_weigh][d_weigh]xpsnr=stats_file={XPSNR_LOG}:shortest=1:repeatlast=0[weighted]",
    ]


def command(pair: Pair, ffmpeg: str) -> str:
    """The scoring as a line that can be pasted."""
    return paste(
        ffmpeg,
        pair_argv(pair),
        dis=os.path.abspath(pair.distorted.path),
        ref=os.path.abspath(pair.reference.path),
    )


def check_comparable(pair: Pair) -> None:
    """Raises CellFailure where decoded samples do not mean the same thing, or a picture would be
    squeezed.
    """
    for name in ("primaries", "transfer", "matrix"):
        ours, theirs = getattr(pair.reference.color, name), getattr(pair.distorted.color, name)
        if "unknown" not in (ours, theirs) and ours != theirs:
            raise CellFailure(
                FailureKind.WRONG_COLOR,
                f"the colour {name} of the reference is {ours}, of the distorted file {theirs}",
            )
    # An untagged container is limited range by convention; a headerless file may be either.
    ranges = {s.color.range == "pc" for s in (pair.reference, pair.distorted) if s.raw is None}
    if len(ranges) > 1:
        full = "reference" if pair.reference.color.range == "pc" else "distorted file"
        raise CellFailure(
            FailureKind.WRONG_COLOR,
            f"only the {full} is full range (pc): the same sample means another brightness",
        )
    stored = [Fraction(s.width, s.height) for s in (pair.reference, pair.distorted)]
    shown = [
        Fraction(s.width, s.height) * Fraction(s.sar) for s in (pair.reference, pair.distorted)
    ]
    if all(abs(float(b / a) - 1) > SHAPE_TOLERANCE for a, b in (stored, shown)):
        sizes = " and ".join(f"{s.width}x{s.height}" for s in (pair.reference, pair.distorted))
        raise CellFailure(
            FailureKind.WRONG_SHAPE,
            f"reference and distorted file are {sizes}: scaling would squeeze the picture;"
            " crop one",
        )


def check_counts(
    reference: int, distorted: int, scored: int | None, done: Finished | None = None
) -> None:
    """Raises CellFailure unless reference = distorted = scored: frames are paired by index."""
    if reference == distorted == (distorted if scored is None else scored):
        return
    said = "" if scored is None else f", scored {scored}"
    raise CellFailure(
        FailureKind.WRONG_FRAME_COUNT,
        f"the reference has {reference} frames and the distorted file {distorted}{said}: all must"
        " agree; cut both to the same frames",
        done,
    )


def _check_constant(done: Finished) -> None:
    """Raises CellFailure where a file changes its size or pixel format on the way: the filters give
    up on it with words that name nothing.
    """
    for number, forms in changed_inputs(done.stderr).items():
        role = ("distorted file", "reference")[number]
        raise CellFailure(
            FailureKind.SOURCE_CHANGES,
            f"the {role} changes in its middle from {' to '.join(forms)}; cut it there, and score"
            " the parts",
            done,
        )


def _check_scored(
    pair: Pair, reference: Decoded, distorted: Decoded, num_scored: int, done: Finished
) -> None:
    """Raises CellFailure where frames are missing. Of clips that are offset to each other the
    frames that both have are cut out, so that the decoders need not come to their ends.
    """
    if not pair.offset:
        check_counts(reference.num_frames, distorted.num_frames, num_scored, done)
        return
    if num_scored != pair.num_frames:
        raise CellFailure(
            FailureKind.WRONG_FRAME_COUNT,
            f"at an offset of {pair.offset} both files should have {pair.num_frames} frames in"
            f" common, and {num_scored} were scored",
            done,
        )


def score_pair(
    pair: Pair, ffmpeg: Ffmpeg, place: Path, timeout_s: float, num_threads: int = 1
) -> PairScore:
    """Score a pair in the empty folder `place` with `num_threads` of libvmaf and each decoder.

    Raises CellFailure when colours, shape or counts differ, frames do not decode, or libvmaf fails.
    """
    check_comparable(pair)
    both_raw = pair.reference.raw and pair.distorted.raw
    if both_raw and not pair.offset:  # the file sizes tell, before an hour of scoring
        check_counts(pair.reference.expected_frames, pair.distorted.expected_frames, None)
    argv = fill(
        pair_argv(pair, num_threads),
        dis=os.path.abspath(pair.distorted.path),
        ref=os.path.abspath(pair.reference.path),
    )
    if pair.model_file is not None:
        shutil.copyfile(pair.model_file, place / NAME)
    done = ffmpeg.run(argv, timeout_s=timeout_s, cwd=place)
    distorted, reference = _decoded(done, place)
    text = log_text(place / LOG)
    _, frames = parse_log(text, pair.teacher)
    _check_scored(pair, reference, distorted, len(frames), done)
    return PairScore(
        frames=frames,
        extra=tuple(parse_extra(text)) if pair.features == "full" else (),
        alignment=_alignment(pair, place, frames, done),
        distorted=distorted,
        cpu_s=done.cpu_s,
        further=further_rows(text, place, pair.metrics, pair.pix_fmt),
    )


def _decoded(done: Finished, place: Path) -> tuple[Decoded, Decoded]:
    """What was decoded of the distorted clip and of the reference. Raises CellFailure when one of
    them does not decode, or libvmaf failed.
    """
    _check_constant(done)
    check(done, "the scoring", FailureKind.SCORE_FAILED)
    inputs = parse_inputs(done.stderr)
    if set(inputs) != {0, 1} or not (place / LOG).exists():
        raise CellFailure(
            FailureKind.SCORE_UNREADABLE,
            "ffmpeg's log does not say what it decoded, or libvmaf wrote none",
            done,
        )
    distorted, reference = inputs[0], inputs[1]
    if distorted.num_errors or reference.num_errors:
        raise CellFailure(
            FailureKind.DECODE_ERRORS,
            f"{reference.num_errors} frames of the reference and {distorted.num_errors} of the"
            " distorted file do not decode",
            done,
        )
    return distorted, reference


def _alignment(pair: Pair, place: Path, frames: Sequence[Frame], done: Finished) -> Alignment:
    """Whether the frames are paired rightly, by the errors at other offsets. Raises CellFailure
    when a log is not whole.
    """
    names = (*OFFSETS, *ROLES)
    errors = {
        name: alignment.parse_errors((place / alignment.log_name(name)).read_text())
        for name in names
    }
    by_offset = {offset: errors[offset] for offset in OFFSETS}
    if any(len(values) != max(0, len(frames) - abs(o)) for o, values in by_offset.items()):
        raise CellFailure(
            FailureKind.SCORE_INCOMPLETE, "the errors at other offsets are not one per frame", done
        )
    return alignment.judge(
        by_offset,
        [frame.features[-1] for frame in frames],
        1023 if pair.pix_fmt.endswith("10le") else 255,
        alignment.detail_ratio(*(errors[role] for role in ROLES)),
    )
