"""Frames as columns have the digest of the same frames as rows."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from vmaf_train.contract import FEATURES
from vmaf_train.corpus.digests import digest
from vmaf_train.corpus.frames import digest_of_frames, from_lines, read_frames, to_table
from vmaf_train.errors import DatasetError


def numbers() -> list[float]:
    """Numbers of every size, whole ones and ones that need an exponent."""
    chance = np.random.default_rng(5)
    sizes = 10.0 ** chance.uniform(-8, 20, 300)
    near = chance.random(300)
    usual = (100 * near).round(6)
    odd = [0.0, -0.0, 1e-4, 9.999e-5, 1e10, 1e16, 1e22, 5e-324, 1.7e308, -3.5, -1e11, 2.0**62]
    return [*odd, *sizes.tolist(), *near.tolist(), *usual.tolist(), *(-sizes).tolist()]


def row(index: int, value: float, **more: Any) -> dict[str, Any]:
    names = {"key": f"key {index % 7}", "cell": f"cell\t{index % 7} é", "src": None}
    known = {"frame_index": index // 7, "vmaf": abs(value) % 100, "crf": index % 3 or None}
    return {**names, **known, **dict.fromkeys(FEATURES, value), **more}


def lines(rows: list[dict[str, Any]]) -> bytes:
    return "".join(json.dumps(row) + "\n" for row in rows).encode()


def test_the_digest_of_columns_is_that_of_the_rows(tmp_path: Path) -> None:
    from pyarrow import parquet

    rows = [row(i, value) for i, value in enumerate(numbers())]
    frames = from_lines(lines(rows), tmp_path)
    wanted = digest(rows, "key", "frame_index")
    assert digest_of_frames(frames) == wanted
    table = tmp_path / "frames.parquet"
    parquet.write_table(to_table(frames), table)
    assert digest_of_frames(read_frames([table])) == wanted


def test_also_with_further_fields_and_frames_of_one_key_and_number(tmp_path: Path) -> None:
    rows = [row(i, 0.5 * i, extra=[i, None], psnr=i / 3) for i in range(20)]
    rows += [row(3, 7.25), row(3, 7.5)]
    found = digest_of_frames(from_lines(lines(rows), tmp_path))
    assert found == digest(rows, "key", "frame_index")


def test_a_number_that_is_infinite_has_no_digest(tmp_path: Path) -> None:
    frames = from_lines(lines([row(0, 1.0)]), tmp_path)
    frames.numbers["adm2"][0] = np.inf
    with pytest.raises(DatasetError, match="adm2 is not finite"):
        digest_of_frames(frames)
