"""A corpus small enough to commit: `python -m vmaf_train.corpus.pack RUN_FOLDER` writes
frames.parquet from frames.jsonl.

It holds the frames of the ok cells, every number exactly as measured, in a tenth of the space;
every reader takes it in place of the JSONL. `--unpack` goes the other way, for a sweep that shall
go on in the folder.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path

from vmaf_train.corpus import rows
from vmaf_train.corpus.frames import digest_of_frames, files_of, read_frames, to_rows, to_table
from vmaf_train.corpus.ledger import require_sound_folder
from vmaf_train.corpus.rows import CELLS, FRAMES, PACKED, SHARDS, Row, to_lines
from vmaf_train.errors import DatasetError, TrainError
from vmaf_train.files import whole

_LEVEL = 19  # of zstd: slow to write, as fast to read as any other


def pack(folder: Path) -> str:
    """Write `folder`/frames.parquet from its frames.jsonl and return the frame digest that both
    have.

    Raises DatasetError when a file is missing or damaged, when frames are in shards, when an ok
    cell and its frames do not agree, or when what was written reads back differently; then
    frames.parquet is as it was.
    """
    from pyarrow import parquet

    if any((folder / SHARDS).glob("*.parquet")):
        raise DatasetError(f"{folder / SHARDS} holds sealed frames; --unpack the folder first")
    keys = frozenset(str(row["key"]) for row in _ok_cells(folder))
    require_sound_folder(folder)
    table = read_frames([folder / FRAMES], keys)
    wanted = digest_of_frames(table)
    with whole(folder / PACKED, check=_reads_back(PACKED, wanted)) as file:
        parquet.write_table(
            to_table(table),
            file,
            compression="zstd",
            compression_level=_LEVEL,
            use_dictionary=["key", "cell", "src", "encoder", "preset", "crf"],
        )
    return wanted


def unpack(folder: Path) -> str:
    """Write `folder`/frames.jsonl from its frames.parquet, or from the shards of frames/ and the
    frames.jsonl that grew since, and return the frame digest that both have.

    Shards are removed when their frames are lines again. Raises DatasetError when a file is missing
    or damaged, or when frames.jsonl lies beside frames.parquet.
    """
    shards = sorted((folder / SHARDS).glob("*.parquet"))
    if not shards and (folder / FRAMES).exists():
        raise DatasetError(
            f"{folder / FRAMES} is there and may hold newer frames; move it away to unpack"
        )
    if not shards and not (folder / PACKED).is_file():
        raise DatasetError(f"{folder / PACKED} does not exist; there is nothing to unpack")
    sources = files_of(folder)
    table = read_frames(sources)
    wanted = digest_of_frames(table)
    with whole(folder / FRAMES, check=_reads_back(FRAMES, wanted)) as file:
        for row in to_rows(table):
            file.write(to_lines([row]))
    # Removed last: until then every frame is there, and of two copies the lines count.
    for shard in shards:
        shard.unlink()
    return wanted


def _ok_cells(folder: Path) -> list[Row]:
    latest = [row for _, row in rows.last_of_each_cell(rows.read_rows(folder / CELLS))]
    found = [row for row in latest if row["status"] == "ok"]
    if not found:
        raise DatasetError(f"{folder / CELLS} holds no finished cell; there is nothing to pack")
    return found


def _reads_back(name: str, wanted: str) -> Callable[[Path], None]:
    """Raises DatasetError for a file of frames that has not the digest `wanted`."""

    def check(beside: Path) -> None:
        if digest_of_frames(read_frames([beside])) != wanted:
            raise DatasetError(f"{name} would not read back as it was written; nothing was changed")

    return check


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
    there = [args.folder / name for name in (FRAMES, PACKED) if (args.folder / name).is_file()]
    sizes = [f"{file.name} {file.stat().st_size:,} bytes" for file in there]
    print(f"{', '.join(sizes)}; frame digest of both {digest}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
