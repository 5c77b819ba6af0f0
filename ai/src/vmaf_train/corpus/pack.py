"""A corpus small enough to commit: `python -m vmaf_train.corpus.pack RUN_FOLDER` writes
frames.parquet from frames.jsonl.

It holds the frames of the ok cells, every number exactly as measured, in a tenth of the space;
every reader takes it in place of the JSONL. `--unpack` goes the other way, for a sweep that shall
go on in the folder.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from pathlib import Path

from vmaf_train.corpus import digests, rows
from vmaf_train.corpus.rows import Row
from vmaf_train.errors import DatasetError, TrainError

CELLS, FRAMES, PACKED = "cells.jsonl", "frames.jsonl", "frames.parquet"
_LEVEL = 19  # of zstd: slow to write, as fast to read as any other


def pack(folder: Path) -> str:
    """Write `folder`/frames.parquet from its frames.jsonl and return the frame digest that both
    have.

    Raises DatasetError when a file is missing or damaged, when an ok cell has not all its frames,
    or when what was written reads back differently; then frames.parquet is as it was.
    """
    import pyarrow
    from pyarrow import parquet

    expected = {str(row["key"]): row["num_frames"] for row in _ok_cells(folder)}
    table = [row for _, row in rows.read(folder / FRAMES) if row["key"] in expected]
    _check_complete(folder, table, expected)
    columns = {name: [row.get(name) for row in table] for name in table[0]}
    repeated = [
        name for name in columns if name in ("key", "cell", "src", "encoder", "preset", "crf")
    ]
    beside = folder / "frames.tmp.parquet"
    try:
        parquet.write_table(
            pyarrow.table(columns),
            beside,
            compression="zstd",
            compression_level=_LEVEL,
            use_dictionary=repeated,
        )
        return _replace_if_same(beside, folder / PACKED, table)
    finally:
        beside.unlink(missing_ok=True)


def unpack(folder: Path) -> str:
    """Write `folder`/frames.jsonl from its frames.parquet and return the frame digest that both
    have.

    Raises DatasetError when the parquet file is missing or damaged, or when frames.jsonl is there.
    """
    if (folder / FRAMES).exists():
        raise DatasetError(
            f"{folder / FRAMES} is there and may hold newer frames; move it away to unpack"
        )
    table = [row for _, row in rows.read(folder / PACKED)]
    beside = folder / "frames.tmp.jsonl"
    try:
        with beside.open("w", encoding="utf-8") as file:
            for row in table:
                file.write(json.dumps(row, ensure_ascii=False, allow_nan=False) + "\n")
        return _replace_if_same(beside, folder / FRAMES, table)
    finally:
        beside.unlink(missing_ok=True)


def _ok_cells(folder: Path) -> list[Row]:
    latest = [row for _, row in rows.last_of_each_cell(rows.read(folder / CELLS))]
    found = [row for row in latest if row["status"] == "ok"]
    if not found:
        raise DatasetError(f"{folder / CELLS} holds no finished cell; there is nothing to pack")
    return found


def _check_complete(folder: Path, table: list[Row], expected: dict[str, int]) -> None:
    found = dict.fromkeys(expected, 0)
    for row in table:
        found[row["key"]] += 1
    short = [key for key, count in expected.items() if found[key] != count]
    if short:
        raise DatasetError(
            f"{folder / FRAMES} lacks frames of {len(short)} finished cells; run the sweep again"
        )


def _replace_if_same(beside: Path, target: Path, table: list[Row]) -> str:
    wanted = digests.digest(table, "key", "frame_index")
    if digests.digest((row for _, row in rows.read(beside)), "key", "frame_index") != wanted:
        raise DatasetError(
            f"{target.name} would not read back as it was written; nothing was changed"
        )
    os.replace(beside, target)
    return wanted


def main() -> int:
    """Pack or unpack the folder named on the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "folder", type=Path, help="the folder of a sweep, such as runs/phase_a/software"
    )
    parser.add_argument("--unpack", action="store_true", help="frames.jsonl from frames.parquet")
    args = parser.parse_args()
    try:
        digest = unpack(args.folder) if args.unpack else pack(args.folder)
    except TrainError as failure:
        print(f"error: {failure}", file=sys.stderr)
        return 4
    sizes = [f"{name} {(args.folder / name).stat().st_size:,} bytes" for name in (FRAMES, PACKED)]
    print(f"{', '.join(sizes)}; frame digest of both {digest}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
