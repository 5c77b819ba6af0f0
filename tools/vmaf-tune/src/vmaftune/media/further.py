"""Metrics beside VMAF: what libvmaf and the xpsnr filter are asked for, and what they say of each
frame.

libvmaf measures all but XPSNR in the pass that scores, NEG as one more model on shared features.
The xpsnr filter takes the same two streams; its FIRST input is the original, whose activity weighs
the errors (libvmaf's first is the distorted one).
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from vmaf_train.corpus.rows import FailureKind

from vmaftune.cell import chroma_of
from vmaftune.errors import ToolError
from vmaftune.media.failure import CellFailure
from vmaftune.media.ffmpeg import Ffmpeg
from vmaftune.metrics import METRICS, xpsnr_of_frame

FurtherRow = Mapping[str, float | None]
"""Values of one frame by column."""

XPSNR_LOG = "xpsnr.txt"
EXTRACTORS: Mapping[str, str] = {
    "psnr": "psnr:enable_mse=true",
    "ssim": "float_ssim",
    "ms_ssim": "float_ms_ssim",
    "cambi": "cambi",
    "ciede2000": "ciede",
}
"""libvmaf's extractor of a metric, with its options."""
_IN_LOG: Mapping[str, str] = {
    "neg": "neg",
    "psnr_y": "psnr_y",
    "psnr_cb": "psnr_cb",
    "psnr_cr": "psnr_cr",
    "ssim": "float_ssim",
    "ms_ssim": "float_ms_ssim",
    "cambi": "cambi",
    "ciede2000": "ciede2000",
}
_MSE = ("mse_y", "mse_cb", "mse_cr")
# libvmaf writes null for the one that has no end.
_ENDLESS = ("ciede2000",)
_XPSNR_FRAME = re.compile(
    r"n: *(\d+) +XPSNR y: *(\S+) +XPSNR u: *(\S+) +XPSNR v: *(\S+)", re.IGNORECASE
)
CHECK_TIMEOUT_S = 60.0


def extractors(metrics: Sequence[str]) -> tuple[str, ...]:
    """The extractors that libvmaf is asked for."""
    return tuple(EXTRACTORS[name] for name in metrics if name in EXTRACTORS)


def require(ffmpeg: Ffmpeg, metrics: Sequence[str]) -> None:
    """Raise ToolError where this ffmpeg cannot measure one of `metrics`: xpsnr came with 7.1."""
    if "xpsnr" not in metrics:
        return
    argv = ["-nostdin", "-hide_banner", "-h", "filter=xpsnr"]
    done = ffmpeg.run(argv, timeout_s=CHECK_TIMEOUT_S)
    if b"stats_file" not in done.stdout:
        raise ToolError(
            f"{ffmpeg.path} has no xpsnr filter; use ffmpeg 7.1 or newer, or leave xpsnr out of"
            " --metrics"
        )


def parse_further(
    frames: Sequence[Mapping[str, float | None]],
    xpsnr: str | None,
    metrics: Sequence[str],
    pix_fmt: str,
) -> tuple[FurtherRow, ...]:
    """The columns of `metrics` per frame, from libvmaf's log and from the xpsnr filter's text.

    Raises CellFailure when one is missing: never filled in.
    """
    if not metrics:
        return ()
    planes = parse_xpsnr(xpsnr or "", len(frames)) if "xpsnr" in metrics else ()
    rows = []
    for i, logged in enumerate(frames):
        row: dict[str, float | None] = {}
        for name in metrics:
            if name == "xpsnr":
                of_frame = planes[i]
                row["xpsnr"] = xpsnr_of_frame(of_frame)
                row |= dict(zip(METRICS["xpsnr"].planes, of_frame, strict=True))
            elif name == "psnr":
                row["psnr"] = _psnr(logged, pix_fmt, i)
                row |= {plane: _logged(logged, plane, i) for plane in METRICS["psnr"].planes}
            else:
                row[name] = _logged(logged, name, i)
        rows.append(row)
    return tuple(rows)


def _logged(logged: Mapping[str, float | None], column: str, frame: int) -> float | None:
    name = _IN_LOG[column]
    value = logged.get(name)
    if name not in logged or value is None and column not in _ENDLESS:
        raise CellFailure(
            FailureKind.SCORE_INCOMPLETE, f"libvmaf's log lacks {name} at frame {frame}"
        )
    return value


def _psnr(logged: Mapping[str, float | None], pix_fmt: str, frame: int) -> float | None:
    """PSNR over all samples of a frame, in dB; None for equal pictures.

    libvmaf's own psnr of a plane ends at 60 dB (72 at 10 bit), so the squared errors are taken.
    """
    errors = [logged.get(name) for name in _MSE]
    known = [error for error in errors if error is not None]
    if len(known) < len(_MSE):
        raise CellFailure(
            FailureKind.SCORE_INCOMPLETE, f"libvmaf's log lacks mse_y at frame {frame}"
        )
    across, down = chroma_of(pix_fmt)
    share = 1 / (across * down)
    error = (known[0] + share * (known[1] + known[2])) / (1 + 2 * share)
    peak = 1023 if pix_fmt.endswith("10le") else 255
    return 10 * math.log10(peak**2 / error) if error > 0 else None


def parse_xpsnr(text: str, num_frames: int) -> list[tuple[float | None, ...]]:
    """XPSNR of Y, U and V per frame, in dB, None for equal planes, of the filter's stats file.

    Raises CellFailure when it has another number of frames.
    """
    found = [
        tuple(_finite(match[i]) for i in (2, 3, 4))
        for match in map(_XPSNR_FRAME.match, text.splitlines())
        if match
    ]
    if len(found) != num_frames:
        raise CellFailure(
            FailureKind.SCORE_INCOMPLETE,
            f"the xpsnr filter measured {len(found)} frames, and {num_frames} were scored",
        )
    return found


def _finite(text: str) -> float | None:
    try:
        value = float(text)
    except ValueError as failure:
        raise CellFailure(
            FailureKind.SCORE_UNREADABLE, f"the xpsnr filter said {text!r}"
        ) from failure
    if math.isnan(value):
        raise CellFailure(FailureKind.SCORE_UNREADABLE, "the xpsnr filter gave no number")
    return value if math.isfinite(value) else None


def xpsnr_text(folder: Path, metrics: Sequence[str]) -> str | None:
    """What the xpsnr filter wrote into `folder`; None where it was not asked. Raises CellFailure
    where it wrote nothing.
    """
    if "xpsnr" not in metrics:
        return None
    file = folder / XPSNR_LOG
    if not file.exists():
        raise CellFailure(FailureKind.SCORE_FAILED, "the xpsnr filter wrote no log")
    return file.read_text(encoding="utf-8", errors="replace")
