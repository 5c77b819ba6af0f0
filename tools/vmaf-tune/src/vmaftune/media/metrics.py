"""libvmaf's full set of features per frame: names asked for, names in the log, and the table of a
run folder.

The frame rows are what is kept; `features.parquet` is made from them whenever a run ends, so a
killed run loses nothing and a table never holds a frame whose cell has no row.
"""

from __future__ import annotations

from collections.abc import Mapping

from vmaf_train.contract import FEATURES
from vmaf_train.corpus.rows import FailureKind

from vmaftune.media.failure import CellFailure
from vmaftune.media.libvmaf_log import read_log

# libvmaf's extractors beyond adm, vif and motion, which are always asked for.
EXTRACTORS = ("psnr", "float_ssim", "float_ms_ssim", "cambi", "ciede", "psnr_hvs")
# Column -> names in libvmaf's log, oldest last. The canonical six come with every frame row.
EXTRA: Mapping[str, tuple[str, ...]] = {
    **{
        name: (f"integer_{name}", name)
        for name in ("adm_scale0", "adm_scale1", "adm_scale2", "adm_scale3", "motion3")
    },
    **{
        name: (name,)
        for name in (
            "psnr_y",
            "psnr_cb",
            "psnr_cr",
            "float_ssim",
            "float_ms_ssim",
            "cambi",
            "ciede2000",
            "psnr_hvs",
        )
    },
}
# Decibels of an error that may be 0: libvmaf writes null where it is.
UNBOUNDED = ("ciede2000", "psnr_hvs")
FULL = (*FEATURES, *EXTRA)
# Measured: CAMBI refuses pictures with both sides below 216, MS-SSIM (5 scales) any side below 176.
LEAST_LONG, LEAST_SHORT = 216, 176


def parse_extra(text: str) -> list[dict[str, float | None]]:
    """The features of EXTRA per frame of libvmaf's JSON log; None for an unbounded one of two equal
    frames.

    Raises CellFailure when one is missing: never filled in.
    """
    rows = []
    for i, entry in enumerate(read_log(text).frames):
        metrics = entry.metrics
        row: dict[str, float | None] = {}
        for column, names in EXTRA.items():
            name = next((n for n in names if n in metrics), None)
            value = metrics[name] if name else None
            if name is None or value is None and column not in UNBOUNDED:
                raise CellFailure(
                    FailureKind.SCORE_INCOMPLETE, f"libvmaf's log lacks {column} at frame {i}"
                )
            row[column] = value
        rows.append(row)
    return rows
