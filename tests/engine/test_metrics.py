"""Metrics beside VMAF in a run folder: what a row and its frames hold, and which row answers."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from vmaf_train.corpus.digests import digest
from vmaf_train.corpus.frames import FrameRow, FurtherRow, digest_of_frames, read_frames
from vmaf_train.corpus.ledger import read_ledger
from vmaf_train.corpus.rows import latest
from vmaf_train.errors import DatasetError
from vmaftune.errors import ToolError, UsageError
from vmaftune.media.ffmpeg import Ffmpeg, identify
from vmaftune.media.further import require
from vmaftune.media.process import Runner
from vmaftune.metrics import COLUMNS, METRICS, parse_guards, parse_metrics, parse_target
from vmaftune.request.flags import Texts, parse_flags, request_from


def lines(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "cells.jsonl").read_text().splitlines()]


def test_a_row_holds_what_was_asked_and_its_frames_the_columns(
    clip: Callable[..., Path], swept: Callable[..., Any]
) -> None:
    run = swept(clip("metrics row.mkv", frames=5), metrics="psnr,vmaf,xpsnr")
    assert list(run.row["metrics"]) == ["xpsnr", "psnr"]
    frames = run.frames_of(run.row["cell"])
    for name in ("xpsnr", "psnr"):
        column = sorted(frame[name] for frame in frames)
        assert run.row["metrics"][name]["min"] == column[0]
        assert run.row["metrics"][name]["max"] == column[-1]
        assert column[0] < run.row["metrics"][name]["mean"] < column[-1]
    extra = {c for name in ("xpsnr", "psnr") for c in METRICS[name].columns}
    assert extra <= set(frames[0])
    (row,) = latest(run.folder / "cells.jsonl").values()
    assert row.metrics is not None and row.metrics.psnr is not None and row.metrics.neg is None
    assert not read_ledger(run.folder, everything=True).damaged


def test_more_metrics_answer_for_fewer_and_fewer_not_for_more(
    clip: Callable[..., Path], swept: Callable[..., Any]
) -> None:
    source = clip("metrics keys.mkv", frames=4)
    plain = swept(source)
    assert "metrics" not in plain.row
    more = swept(source, metrics="psnr,neg")
    assert len(lines(more.folder)) == 2 and more.row["key"] != plain.row["key"]
    assert more.row["vmaf_score"] == plain.row["vmaf_score"]
    # what is there answers for any part of it, and for nothing beyond it
    for part in (None, "psnr", "neg", "vmaf,neg,psnr"):
        again = swept(source, metrics=part)
        assert len(lines(again.folder)) == 2 and again.row["key"] == more.row["key"]
    other = swept(source, metrics="ssim")
    assert len(lines(other.folder)) == 3 and list(other.row["metrics"]) == ["ssim"]
    # also when it is not the last row of its cell: it becomes that again
    assert swept(source, metrics="psnr").row["metrics"].keys() == {"neg", "psnr"}
    assert [row["key"] for row in lines(other.folder)].count(more.row["key"]) == 2
    assert len(other.frames) == 3 * 4
    assert not read_ledger(other.folder, everything=True).damaged


def test_a_default_row_is_the_one_it_was(
    clip: Callable[..., Path], swept: Callable[..., Any], tmp_path: Path
) -> None:
    """Neither the key nor the digest of a row without further metrics knows of them."""
    source = clip("metrics default.mkv", frames=4)
    first = swept(source, out=tmp_path / "a").row
    second = swept(source, out=tmp_path / "b", metrics="vmaf").row
    assert first["key"] == second["key"]
    assert digest([first], "key") == digest([second], "key")


def test_a_column_of_another_type_is_no_frame_row(
    clip: Callable[..., Path], swept: Callable[..., Any]
) -> None:
    assert (*FrameRow.__struct_fields__, *COLUMNS[1:]) == FurtherRow.__struct_fields__
    folder = swept(clip("metrics column.mkv", frames=2), metrics="psnr").folder
    file = folder / "frames.jsonl"
    text = file.read_text()
    assert '"psnr": ' in text
    file.write_text(text.replace('"psnr": ', '"psnr": "much", "was": ', 1))
    with pytest.raises(DatasetError, match=r"frames\.jsonl:1: no frame row.*psnr"):
        read_frames([file])


def test_a_sweep_file_names_metrics_and_a_flag_wins(tmp_path: Path) -> None:
    file = tmp_path / "sweep.toml"
    file.write_text('encoders = ["x264"]\nmetrics = ["psnr", "cambi"]\nsources = []\n')
    assert request_from(parse_flags(Texts(sweep=str(file)))).metrics == ("psnr", "cambi")
    assert request_from(parse_flags(Texts(sweep=str(file), metrics="neg"))).metrics == ("neg",)
    file.write_text('encoders = ["x264"]\nmetrics = ["vif"]\n')
    with pytest.raises(UsageError, match=r"sweep\.toml: metrics: there is no metric 'vif'"):
        request_from(parse_flags(Texts(sweep=str(file))))


def test_pictures_too_small_for_a_metric_are_refused(
    clip: Callable[..., Path], swept: Callable[..., Any]
) -> None:
    source = clip("metrics small.mkv", frames=2)
    with pytest.raises(UsageError, match=r"cambi needs a side of at least 216 pixels"):
        swept(source, metrics="cambi")
    with pytest.raises(UsageError, match=r"96x64.*sides of at least 176 pixels; leave ms_ssim out"):
        swept(source, metrics="ms_ssim")


def test_words_for_metrics_are_read_once() -> None:
    assert parse_metrics(None) == () == parse_metrics("vmaf")
    assert parse_metrics(" PSNR, neg,psnr ") == ("neg", "psnr")
    with pytest.raises(UsageError, match="no metric 'vmaf2'"):
        parse_metrics("vmaf2")
    with pytest.raises(UsageError, match="is empty"):
        parse_metrics(",")
    assert parse_target("93") == ("vmaf", 93.0)
    assert parse_target("xpsnr=40.5") == ("xpsnr", 40.5)
    for wrong in ("", "xpsnr", "xpsnr=", "=", "xpsnr=nan", "vif=3"):
        with pytest.raises(UsageError, match="--target"):
            parse_target(wrong)
    assert [str(g) for g in parse_guards("cambi<=5, vmaf.p5>=85")] == ["cambi<=5", "vmaf.p5>=85"]
    for wrong in ("cambi=5", "cambi<5", "cambi<=", "vif<=5", "vmaf.p7>=3", "cambi<=5x"):
        with pytest.raises(UsageError, match="--guard"):
            parse_guards(wrong)


def test_an_ffmpeg_without_xpsnr_is_told_before_anything_runs(
    wrapper: Callable[..., str],
) -> None:
    without = wrapper("argv = ['-h', 'filter=none'] if 'filter=xpsnr' in argv else argv")
    ffmpeg: Ffmpeg = identify(Runner(), without)
    require(ffmpeg, ("psnr",))
    with pytest.raises(ToolError, match=r"no xpsnr filter; use ffmpeg 7\.1 or newer"):
        require(ffmpeg, ("psnr", "xpsnr"))


def test_frames_with_metrics_are_the_same_read_at_once_and_one_by_one(
    clip: Callable[..., Path], swept: Callable[..., Any]
) -> None:
    source = clip("metrics frames.mkv", frames=3)
    swept(source, quality="30", metrics="psnr,ssim")
    file = swept(source, quality="30,40", extend=True).folder / "frames.jsonl"
    at_once = read_frames([file])
    assert np.isnan(at_once.numbers["psnr"]).sum() == 3 and len(at_once) == 6
    plain = [json.loads(line) for line in file.read_text().splitlines()]
    file.write_text("".join(json.dumps({**row, "odd": None}) + "\n" for row in plain))
    one_by_one = read_frames([file])
    assert digest_of_frames(at_once) == digest_of_frames(one_by_one)
    for name, column in at_once.numbers.items():
        np.testing.assert_array_equal(column, one_by_one.numbers[name])
