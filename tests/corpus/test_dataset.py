from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from vmaf_train.contract import FEATURES, VOCABULARY
from vmaf_train.corpus import dataset
from vmaf_train.corpus.dataset import Dataset
from vmaf_train.corpus.folds import Fold, kfold_folds, loeo_folds, loso_folds
from vmaf_train.corpus.newest import newest_corpus, newest_usable
from vmaf_train.errors import DatasetError

VALUES = dict(zip(FEATURES, (0.9, 0.5, 0.6, 0.7, 0.8, 4.0), strict=True))


def write(path: Path, rows: Iterable[dict[str, Any]]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def rows_of(corpus: Path, name: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (corpus / name).read_text(encoding="utf-8").splitlines()]


def test_cells_of_a_sweep(cells: Dataset, corpus: Path) -> None:
    row = rows_of(corpus, "cells.jsonl")[7]
    i = list(cells.key).index(row["key"])
    assert cells.features[i].tolist() == [row["per_frame_features"][name] for name in FEATURES]
    assert cells.y[i] == row["vmaf_score"]
    assert (cells.src[i], cells.encoder[i], cells.preset[i], cells.crf[i]) == (
        row["src"],
        row["encoder"],
        row["preset"],
        row["crf"],
    )
    assert cells.codec[i, VOCABULARY.index(row["encoder"])] == 1
    assert cells.frame_index is None and len(cells) == 96


def test_an_encoder_outside_the_vocabulary_is_unknown(cells: Dataset) -> None:
    aom = cells.encoder == "libaom-av1"
    assert aom.any() and (cells.codec[aom, VOCABULARY.index("unknown")] == 1).all()


def test_frames_carry_their_cell(frames: Dataset, cells: Dataset) -> None:
    assert len(frames) == 12 * len(cells) and frames.digest == cells.digest
    assert frames.frame_index is not None and frames.frame_index.max() == 11
    for i in (0, 50):
        assert frames.y[frames.key == cells.key[i]].mean() == pytest.approx(cells.y[i])


def test_a_nan_of_pandas_is_a_missing_value(corpus: Path, tmp_path: Path) -> None:
    rows = rows_of(corpus, "cells.jsonl")
    write(
        tmp_path / "some" / "cells.jsonl",
        [{**row, "size_bytes": 7 if i else None} for i, row in enumerate(rows)],
    )
    table = pd.DataFrame(rows).assign(size_bytes=[float("nan")] + [7.0] * (len(rows) - 1))
    (tmp_path / "nan").mkdir()
    table.to_parquet(tmp_path / "nan" / "cells.parquet")
    assert (
        dataset.load(tmp_path / "nan", per_frame=False).digest
        == dataset.load(tmp_path / "some", per_frame=False).digest
    )
    table.assign(size_bytes=float("inf")).to_parquet(tmp_path / "nan" / "cells.parquet")
    with pytest.raises(DatasetError, match="size_bytes is inf"):
        dataset.load(tmp_path / "nan", per_frame=False)


def test_one_digest_for_jsonl_and_parquet(corpus: Path, tmp_path: Path) -> None:
    pd.DataFrame(rows_of(corpus, "cells.jsonl")).to_parquet(tmp_path / "cells.parquet")
    table = pd.DataFrame(rows_of(corpus, "frames.jsonl"))
    table["device"] = None
    table.sample(frac=1, random_state=0).to_parquet(tmp_path / "frames.parquet")
    assert dataset.corpus_digest(tmp_path) == dataset.corpus_digest(corpus)
    assert dataset.frame_digest(tmp_path) == dataset.frame_digest(corpus) is not None
    ours, theirs = dataset.load(tmp_path, per_frame=True), dataset.load(corpus, per_frame=True)
    assert (
        np.array_equal(ours.features, theirs.features) and ours.frame_digest == theirs.frame_digest
    )


def test_digest_ignores_times_and_machines_and_sees_scores(corpus: Path, tmp_path: Path) -> None:
    rows = rows_of(corpus, "cells.jsonl")
    for row in rows:
        row |= {
            "finished_at": "2030-01-01T00:00:00Z",
            "encode_wall_s": 9.0,
            "score_cpu_s": 1,
            "device": {"gpu": "x"},
        }
    same = write(tmp_path / "same" / "cells.jsonl", reversed(rows))
    assert dataset.corpus_digest(same) == dataset.corpus_digest(corpus)
    rows[3]["vmaf_score"] += 1e-9
    assert dataset.corpus_digest(
        write(tmp_path / "other" / "cells.jsonl", rows)
    ) != dataset.corpus_digest(corpus)


def test_the_last_row_of_a_cell_counts_and_only_frames_of_its_key(
    corpus: Path, tmp_path: Path
) -> None:
    rows, frames = rows_of(corpus, "cells.jsonl"), rows_of(corpus, "frames.jsonl")
    old = rows[0] | {"key": "old", "vmaf_score": 1.0}
    old_frames = [f | {"key": "old", "vmaf": 1.0} for f in frames if f["key"] == rows[0]["key"]]
    write(tmp_path / "cells.jsonl", [old, *rows])
    write(tmp_path / "frames.jsonl", [*old_frames, *frames])
    for per_frame in (False, True):
        found = dataset.load(tmp_path, per_frame=per_frame)
        assert "old" not in found.key and len(found) == len(
            dataset.load(corpus, per_frame=per_frame)
        )
    assert dataset.frame_digest(tmp_path) == dataset.frame_digest(corpus)


def test_failed_and_flagged_rows_are_left_out_and_counted(corpus: Path, tmp_path: Path) -> None:
    rows = rows_of(corpus, "cells.jsonl")
    rows[0] |= {"status": "failed", "vmaf_score": None, "per_frame_features": None}
    rows[1] |= {"flags": ["suspect_alignment"]}
    found = dataset.load(write(tmp_path / "cells.jsonl", rows), per_frame=False)
    assert len(found) == len(rows) - 2
    assert found.notes == (
        "left out 1 failed cells",
        "left out 1 flagged rows (suspect_alignment 1)",
    )


def test_two_teachers_never_train_together(corpus: Path, tmp_path: Path) -> None:
    rows = rows_of(corpus, "cells.jsonl")
    rows[5]["teacher"] = "vmaf_v0.6.1neg"
    with pytest.raises(DatasetError, match=r"2 teachers \(synthetic-smoke, vmaf_v0.6.1neg\)"):
        dataset.load(write(tmp_path / "cells.jsonl", rows), per_frame=False)


def test_rows_that_name_no_teacher_are_told(corpus: Path, tmp_path: Path) -> None:
    rows = rows_of(corpus, "cells.jsonl")
    rows[5]["teacher"] = None
    found = dataset.load(write(tmp_path / "cells.jsonl", rows), per_frame=False)
    assert found.teacher == "synthetic-smoke" and found.notes[0].startswith(
        "1 rows name no teacher: they are taken for"
    )


def lose_feature(row: dict[str, Any]) -> None:
    del row["per_frame_features"]["vif_scale2"]


def null_feature(row: dict[str, Any]) -> None:
    row["per_frame_features"]["motion2"] = None


def lose_score(row: dict[str, Any]) -> None:
    row["vmaf_score"] = None


def high_score(row: dict[str, Any]) -> None:
    row |= {"vmaf_score": 250, "vmaf_unclipped": 250}


def low_score(row: dict[str, Any]) -> None:
    row["vmaf_score"] = -0.5


@pytest.mark.parametrize(
    ("damage", "what"),
    [
        (lose_feature, "vif_scale2"),
        (null_feature, "motion2"),
        (lose_score, "the row is ok and has no vmaf_score"),
        (high_score, "vmaf_score is 250; a VMAF score is 0..100"),
        (low_score, "vmaf_score is -0.5"),
    ],
)
def test_a_row_without_feature_or_score_is_refused_with_its_line(
    corpus: Path, tmp_path: Path, damage: Callable[[dict[str, Any]], None], what: str
) -> None:
    rows = rows_of(corpus, "cells.jsonl")
    damage(rows[10])
    with pytest.raises(DatasetError, match=rf"cells.jsonl:11: .*{what}"):
        dataset.load(write(tmp_path / "cells.jsonl", rows), per_frame=False)


@pytest.mark.parametrize(
    ("change", "what"),
    [
        ({"encoder": ["a"]}, r"encoder is \['a'\]"),
        ({"preset": [1]}, r"preset is \[1\]"),
        ({"crf": "23"}, "crf.*'23'"),
        ({"crf": -1}, "crf.*-1"),
        ({"crf": float("nan")}, "NaN is not a finite number"),
    ],
)
def test_settings_of_another_type_are_refused_with_their_line(
    tmp_path: Path, change: dict[str, Any], what: str
) -> None:
    file = write(tmp_path / "old.jsonl", [aggregated(), aggregated(src="b", **change)])
    with pytest.raises(DatasetError, match=f"old.jsonl:2: .*{what}"):
        dataset.load(file, per_frame=False)


def test_aliases_are_resolved_and_an_unknown_preset_is_told(tmp_path: Path) -> None:
    rows = [
        aggregated(encoder="x264", preset="nosuch"),
        aggregated(encoder="svtav1", preset=8, crf=30),
    ]
    found = dataset.load(write(tmp_path / "old.jsonl", rows), per_frame=False)
    assert found.encoder.tolist() == ["libx264", "libsvtav1"] and found.preset.tolist() == [
        "nosuch",
        "8",
    ]
    assert found.codec[0, VOCABULARY.index("libx264")] == 1 and found.codec[0, -2] == pytest.approx(
        5 / 9
    )
    assert found.notes == (
        "read 1 rows with an unknown preset as one of ordinal 5 (libx264 nosuch 1)",
    )


def test_missing_frames_are_a_damaged_corpus(corpus: Path, tmp_path: Path) -> None:
    shutil.copy(corpus / "cells.jsonl", tmp_path)
    write(tmp_path / "frames.jsonl", rows_of(corpus, "frames.jsonl")[1:])
    with pytest.raises(DatasetError, match="cells.jsonl:1: the cell has 11 of its 12 frames"):
        dataset.load(tmp_path, per_frame=True)


def test_a_torn_last_line_is_passed_over_and_any_other_bad_line_is_not(
    corpus: Path, tmp_path: Path
) -> None:
    file = tmp_path / "cells.jsonl"
    file.write_bytes((corpus / "cells.jsonl").read_bytes() + b'{"cell": "half')
    assert len(dataset.load(file, per_frame=False)) == 96
    file.write_bytes(b'{"cell": "half\n' + (corpus / "cells.jsonl").read_bytes())
    with pytest.raises(DatasetError, match=r"cells.jsonl:1: not a JSON line"):
        dataset.load(file, per_frame=False)


def aggregated(**changes: Any) -> dict[str, Any]:
    row = {
        "src": "BigBuckBunny_25fps",
        "encoder": "h264_nvenc",
        "preset": "p4",
        "crf": 19,
        "vmaf_score": 90.0,
        "per_frame_features": VALUES,
    }
    return {k: v for k, v in (row | changes).items() if v is not ...}


@pytest.mark.parametrize(
    "row",
    [
        aggregated(),
        aggregated(crf=..., cq=19),
        aggregated(crf=..., q=19.0),
        aggregated(per_frame_features={f"integer_{k}": v for k, v in VALUES.items()}),
        aggregated(per_frame_features=..., **{f"{k}_mean": v for k, v in VALUES.items()}),
        aggregated(per_frame_features=..., **{f"integer_{k}_mean": v for k, v in VALUES.items()}),
        aggregated(per_frame_features=..., **VALUES),
    ],
)
@pytest.mark.parametrize("suffix", ["jsonl", "parquet"])
def test_old_spellings_of_one_row(tmp_path: Path, row: dict[str, Any], suffix: str) -> None:
    file = tmp_path / f"per_frame_canonical6.{suffix}"
    if suffix == "jsonl":
        write(file, [row])
    else:
        pd.DataFrame([row]).to_parquet(file)
    found = dataset.load(file, per_frame=False)
    assert found.features.tolist() == [list(VALUES.values())]
    assert (found.y[0], found.crf[0], found.group[0]) == (90.0, 19.0, "BigBuckBunny_25fps")
    assert found.codec[0, VOCABULARY.index("h264_nvenc")] == 1 and found.codec[
        0, -1
    ] == pytest.approx(19 / 63)


def test_a_missing_preset_is_medium(tmp_path: Path) -> None:
    found = dataset.load(
        write(tmp_path / "old.jsonl", [aggregated(encoder="libx264", preset=...)]), per_frame=False
    )
    assert found.preset[0] == "medium" and found.codec[0, -2] == pytest.approx(5 / 9)


def test_quality_above_the_encoders_maximum_is_clipped(tmp_path: Path) -> None:
    found = dataset.load(
        write(tmp_path / "old.jsonl", [aggregated(encoder="libx264", crf=60)]), per_frame=False
    )
    assert found.codec[0, -1] == pytest.approx(51 / 63)


def test_bare_frames_are_averaged_over_source_encoder_preset_and_quality(tmp_path: Path) -> None:
    rows = [
        {
            "src": s,
            "encoder": "hevc_qsv",
            "cq": q,
            "vmaf": v,
            **{f"integer_{k}": x + v / 100 for k, x in VALUES.items()},
        }
        for s in ("a", "b")
        for q in (19, 25)
        for v in (80.0, 90.0)
    ]
    file = write(tmp_path / "qsv_pf.jsonl", rows)
    cells, frames = dataset.load(file, per_frame=False), dataset.load(file, per_frame=True)
    assert len(cells) == 4 and cells.y.tolist() == [85.0] * 4
    assert cells.features[0] == pytest.approx([x + 0.85 for x in VALUES.values()])
    assert (
        len(frames) == 8
        and frames.frame_index is not None
        and frames.frame_index.tolist() == [0, 1] * 4
    )
    assert dataset.has_frames(file) and frames.groups == ["a", "b"]


def test_scored_pairs_train_per_frame_only(tmp_path: Path) -> None:
    pair = {
        "cell": "ref/x.mp4",
        "key": "k",
        "src": "ref",
        "encoder": "external",
        "preset": None,
        "crf": None,
        "vmaf_score": 90.0,
        "num_frames": 1,
        "per_frame_features": VALUES,
    }
    write(
        tmp_path / "frames.jsonl",
        [{"key": "k", "src": "ref", "frame_index": 0, "vmaf": 90.0, **VALUES}],
    )
    file = write(
        tmp_path / "cells.jsonl", [pair, aggregated(cell="c", key="other", status="failed")]
    )
    assert dataset.load(file, per_frame=True).encoder.tolist() == ["external"]
    with pytest.raises(DatasetError, match="no usable row.*left out 1 rows without encoder"):
        dataset.load(file, per_frame=False)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("missing.jsonl", None),
        ("empty.jsonl", b""),
        ("bad.parquet", b"PAR1"),
        ("list.jsonl", b"[1]\n"),
    ],
)
def test_unusable_files(tmp_path: Path, name: str, content: bytes | None) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(DatasetError, match=name):
        dataset.load(tmp_path / name, per_frame=False)


@pytest.mark.parametrize("make", [loso_folds, lambda d: kfold_folds(d, 3)])
def test_no_group_on_both_sides(frames: Dataset, make: Callable[[Dataset], list[Fold]]) -> None:
    folds = make(frames)
    for fold in folds:
        assert not set(frames.group[fold.train]) & set(frames.group[fold.test])
        assert len(fold.train) + len(fold.test) == len(frames)
    held_out = np.concatenate([fold.test for fold in folds])
    assert sorted(held_out) == list(range(len(frames)))


def test_loso_holds_out_groups_not_sources(corpus: Path, tmp_path: Path) -> None:
    rows = rows_of(corpus, "cells.jsonl")
    for row in rows:
        row["group"] = "film" if row["src"] in ("smoke00", "smoke01") else row["src"]
    data = dataset.load(write(tmp_path / "cells.jsonl", rows), per_frame=False)
    fold = next(f for f in loso_folds(data) if f.name == "film")
    assert set(data.src[fold.test]) == {"smoke00", "smoke01"} and not set(data.src[fold.train]) & {
        "smoke00",
        "smoke01",
    }


@pytest.mark.parametrize("per_frame", [False, True])
def test_a_source_or_its_file_in_two_groups_is_refused(
    corpus: Path, tmp_path: Path, per_frame: bool
) -> None:
    shutil.copy(corpus / "frames.jsonl", tmp_path)
    rows = rows_of(corpus, "cells.jsonl")
    for row in rows:
        row["src_sha256"] = "same" if row["src"] in ("smoke00", "smoke01") else row["src"]
        row["group"] = "film" if row["src_sha256"] == "same" else row["src"]
    assert len(dataset.load(write(tmp_path / "cells.jsonl", rows), per_frame=per_frame).groups) == 3
    segments = [row | {"group": row["src"]} for row in rows]
    with pytest.raises(DatasetError, match="sha256 same is in the groups smoke00 and smoke01"):
        dataset.load(write(tmp_path / "cells.jsonl", segments), per_frame=per_frame)
    halves = [
        row | {"src_sha256": None, "group": row["group"] + "x" * (i == 40)}
        for i, row in enumerate(rows)
    ]
    with pytest.raises(
        DatasetError, match=r"cells.jsonl:41: the source smoke01 is in the groups film and filmx"
    ):
        dataset.load(write(tmp_path / "cells.jsonl", halves), per_frame=False)


def test_loeo_holds_out_an_encoder(cells: Dataset) -> None:
    folds = loeo_folds(cells)
    assert [f.name for f in folds] == ["libaom-av1", "libsvtav1", "libx264"]
    assert all(
        set(cells.encoder[f.test]) == {f.name} and f.name not in cells.encoder[f.train]
        for f in folds
    )


def test_too_few_groups(tmp_path: Path, cells: Dataset) -> None:
    one = dataset.load(write(tmp_path / "one.jsonl", [aggregated()]), per_frame=False)
    with pytest.raises(DatasetError, match="one group only"):
        loso_folds(one)
    with pytest.raises(DatasetError, match="5 folds of whole groups need 2..4"):
        kfold_folds(cells, 5)


def test_newest_corpus(corpus: Path, tmp_path: Path) -> None:
    def sweep(name: str, finished_at: str, drop: int = 0) -> None:
        rows = [row | {"finished_at": finished_at} for row in rows_of(corpus, "cells.jsonl")]
        write(tmp_path / "phase_a" / name / "cells.jsonl", rows[drop:])
        shutil.copy(corpus / "sweep.json", tmp_path / "phase_a" / name)

    with pytest.raises(DatasetError, match="no corpus under"):
        newest_corpus(tmp_path)
    sweep("partial", "2026-04-01T00:00:00Z", drop=1)
    sweep("demo", "2026-05-01T00:00:00Z")
    with pytest.raises(DatasetError, match=r"partial \(95 of 96 cells\)"):
        newest_corpus(tmp_path)
    sweep("b_old", "2026-01-01T00:00:00Z")
    sweep("a_new", "2026-02-01T00:00:00Z")
    assert newest_corpus(tmp_path).name == "a_new"


def test_the_newest_corpus_is_one_that_is_whole_and_that_the_model_can_use(
    corpus: Path, tmp_path: Path
) -> None:
    rows = rows_of(corpus, "cells.jsonl")
    grid = [
        {"encoder": e, "preset": p, "quality": [q], "sources": sorted({r["src"] for r in rows})}
        for e, p, q in sorted({(r["encoder"], r["preset"], r["crf"]) for r in rows})
    ]

    by_key: dict[str, list[dict[str, Any]]] = {}
    for frame in rows_of(corpus, "frames.jsonl"):
        by_key.setdefault(frame["key"], []).append(frame)

    def sweep(name: str, month: int, rows: list[dict[str, Any]], plan: Any) -> Path:
        folder = tmp_path / "phase_a" / name
        write(
            folder / "cells.jsonl",
            [row | {"finished_at": f"2026-{month:02d}-01T00:00:00Z"} for row in rows],
        )
        frames = [f | {"cell": row["cell"]} for row in rows for f in by_key[row["key"]]]
        write(folder / "frames.jsonl", frames)
        (folder / "sweep.json").write_text(plan if isinstance(plan, str) else json.dumps(plan))
        return folder

    good = sweep(
        "good", 1, [*rows, rows[0] | {"cell": "smoke00/libx264/slow/23.5"}], {"grid": grid}
    )
    grid.append({"encoder": "libx264", "preset": "slow", "quality": [23.5], "sources": ["smoke00"]})
    (good / "sweep.json").write_text(json.dumps({"grid": grid}))
    pairs = [
        r | {"cell": f"pair{i}", "encoder": "external", "preset": None, "crf": None}
        for i, r in enumerate(rows)
    ]
    sweep("pairs", 2, pairs, {"grid": [], "pairs": [{"cell": r["cell"]} for r in pairs]})
    sweep("other_cells", 3, [*rows, rows[0] | {"cell": "smoke00/libx264/other/1"}], {"grid": grid})
    for number, plan in enumerate(("{", "[]", '{"grid": [{}]}', "{}")):
        sweep(f"broken{number}", 4, rows, plan)
    (sweep("torn", 5, rows, {"grid": grid}) / "cells.jsonl").write_text(
        "{\n" + json.dumps(rows[0]) + "\n"
    )
    for name in ("demo", "dense"):
        sweep(name, 6, pairs, {"grid": [], "pairs": [{"cell": r["cell"]} for r in pairs]})
    found, notes = newest_usable(tmp_path, per_frame=False)
    assert found.path.parent == good and newest_corpus(tmp_path).name == "pairs"
    assert [note.split("phase_a/")[1].split()[0].rstrip(":") for note in notes] == [
        "broken0",
        "broken1",
        "broken2",
        "broken3",
        "other_cells",
        "torn",
        "pairs",
    ]
    assert (
        any("other_cells (96 of 97 cells)" in note for note in notes)
        and "without encoder" in notes[-1]
    )
    shutil.rmtree(good)
    with pytest.raises(DatasetError, match="no corpus under .* can be used: .*pairs"):
        newest_usable(tmp_path, per_frame=False)


def test_rows_of_other_sizes_options_and_bounds_are_left_out(corpus: Path, tmp_path: Path) -> None:
    folder = tmp_path / "variants"
    shutil.copytree(corpus, folder)
    rows = [json.loads(line) for line in (folder / "cells.jsonl").read_text().splitlines()]
    more = ({"encode_width": 320, "encode_height": 180}, {"options": "film"}, {"maxrate_kbps": 9})
    for row, fields in zip(rows, more, strict=False):
        row |= fields
    (folder / "cells.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    found = dataset.load(folder, per_frame=False)
    assert len(found) == len(dataset.load(corpus, per_frame=False)) - 3
    assert any("left out 3 rows that the model could not tell" in note for note in found.notes)
