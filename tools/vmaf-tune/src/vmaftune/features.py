"""libvmaf's full set of features per frame: names asked for, names in the log, and the table of a run folder.

The frame rows are what is kept; `features.parquet` is made from them whenever a run ends, so a killed run loses
nothing and a table never holds a frame whose cell has no row.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from vmaf_train.contract import FEATURES

from vmaftune import corpus
from vmaftune.encode import CellFailure

TABLE = "features.parquet"
# libvmaf's extractors beyond adm, vif and motion, which are always asked for.
EXTRACTORS = ("psnr", "float_ssim", "float_ms_ssim", "cambi", "ciede", "psnr_hvs")
# Column -> names in libvmaf's log, oldest last. The canonical six come with every frame row.
EXTRA: Mapping[str, tuple[str, ...]] = {
    **{name: (f"integer_{name}", name) for name in ("adm_scale0", "adm_scale1", "adm_scale2", "adm_scale3", "motion3")},
    **{name: (name,) for name in ("psnr_y", "psnr_cb", "psnr_cr", "float_ssim", "float_ms_ssim", "cambi", "ciede2000",
                                  "psnr_hvs")},
}  # fmt: skip
# Decibels of an error that may be 0: libvmaf writes null where it is.
UNBOUNDED = ("ciede2000", "psnr_hvs")
FULL = (*FEATURES, *EXTRA)
# Measured: CAMBI refuses pictures with both sides below 216, MS-SSIM (5 scales) any side below 176.
LEAST_LONG, LEAST_SHORT = 216, 176
_HEAD = ("src", "group", "cell", "key", "dis_basename", "teacher", "frame_index", "vmaf", "vmaf_unclipped")


def parse_extra(text: str) -> list[dict[str, float | None]]:
    """The features of EXTRA per frame of libvmaf's JSON log; None for an unbounded one of two equal frames.

    Raises CellFailure when one is missing: never filled in.
    """
    rows = []
    for i, entry in enumerate(json.loads(text)["frames"]):
        metrics = entry["metrics"]
        row: dict[str, float | None] = {}
        for column, names in EXTRA.items():
            name = next((n for n in names if n in metrics), None)
            value = metrics[name] if name else None
            if name is None or value is None and column not in UNBOUNDED:
                raise CellFailure("score_incomplete", f"libvmaf's log lacks {column} at frame {i}")
            row[column] = value
        rows.append(row)
    return rows


def write_table(folder: Path) -> int:
    """Make features.parquet (zstd) of a run folder from its rows, whole or not at all; returns its number of frames.

    One row per frame of every ok cell, in the order of their ids, with the cell's flags.
    """
    import pyarrow
    from pyarrow import parquet

    ok = sorted((row for row in corpus.latest_rows(folder).values() if row["status"] == "ok"), key=lambda row: row["cell"])
    cells = {row["key"]: row for row in ok}
    frames: dict[str, list[Mapping[str, Any]]] = {key: [] for key in cells}
    for frame in corpus.read_jsonl(folder / corpus.FRAMES):
        if frame["key"] in frames:
            frames[frame["key"]].append(frame)
    rows = [{**frame, **{n: cells[key][n] for n in ("group", "teacher", "flags")}, "dis_basename": cells[key]["distorted"]}
            for key, of_cell in frames.items() for frame in of_cell]  # fmt: skip
    number, text = pyarrow.float64(), pyarrow.string()
    kinds = {"frame_index": pyarrow.int64(), "vmaf": number, "vmaf_unclipped": number}
    schema = pyarrow.schema(
        [*((name, kinds.get(name, text)) for name in _HEAD), *((name, number) for name in FULL),
         ("flags", pyarrow.list_(text))]
    )  # fmt: skip
    beside = folder / f"{TABLE}.tmp"
    with beside.open("wb") as file:
        parquet.write_table(pyarrow.Table.from_pylist(rows, schema=schema), file, compression="zstd")
        file.flush()
        os.fsync(file.fileno())
    os.replace(beside, folder / TABLE)
    return len(rows)
