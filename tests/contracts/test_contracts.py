"""What must not change by accident: keys, ids and commands of finished corpora, digests, and the
bytes of shipped models.

`make contracts` runs these in seconds. A corpus is found again by its keys: one that changes is a
corpus measured anew. For a contract that is changed on purpose, WRITE_GOLDEN=1 writes golden.json
anew.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from vmaf_train.corpus import dataset
from vmaftune.cell import Cell, Color, Crop, MadeBy, Pair, Raw, Setting, Tools, Window
from vmaftune.encoders import ENCODERS, format_quality
from vmaftune.media.encode import encode_argv
from vmaftune.media.score_pair import pair_argv

ROOT = Path(__file__).parents[2]
CORPUS = ROOT / "runs/phase_a/software"
MODELS = ROOT / "model/tiny"
PRIOR_FILE = f"quality_prior-{8 * '[0-9a-f]'}.json"
GOLDEN = Path(__file__).with_name("golden.json")
TOOLS = Tools(
    ffmpeg="/x/ffmpeg", ffmpeg_version="9.0.2", ffmpeg_sha256="ab" * 32, libvmaf_version="v3"
)
SOURCE = Window(
    name="clip",
    group="film",
    path="clips/clip.mp4",
    sha256="cd" * 32,
    size_bytes=1000,
    start_frame=48,
    num_frames=132,
    expected_frames=132,
    crop=None,
    scale=(640, 360),
    deinterlace=False,
    width=640,
    height=360,
    pix_fmt="yuv420p",
    fps="24000/1001",
    sar="1",
    color=Color(primaries="bt709", transfer="bt709", matrix="bt709", range="tv"),
    stream_index=0,
    raw=None,
)
RAW = Raw(width=640, height=360, fps="25", pix_fmt="yuv420p")


def source_of(entry: dict[str, Any]) -> Window:
    """A source as sweep.json holds it."""
    crop = entry["crop"] and Crop(
        **dict(zip(("width", "height", "x", "y"), entry["crop"], strict=True))
    )
    names = (
        "name",
        "group",
        "path",
        "sha256",
        "size_bytes",
        "start_frame",
        "num_frames",
        "expected_frames",
        "deinterlace",
        "width",
        "height",
        "pix_fmt",
        "fps",
        "sar",
        "stream_index",
    )
    primaries, transfer, matrix, range_ = entry["color"]
    return Window(
        **{name: entry[name] for name in names},
        crop=crop,
        scale=entry["scale"] and tuple(entry["scale"]),
        raw=None,
        color=Color(primaries=primaries, transfer=transfer, matrix=matrix, range=range_),
        flags=tuple(entry["flags"]),
    )


def rows(name: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (CORPUS / name).read_text().splitlines()]


def test_keys_ids_and_commands_of_the_committed_corpus() -> None:
    document = json.loads((CORPUS / "sweep.json").read_text())
    for entry in document["sources"]:  # a crop is written as text
        if entry["crop"]:
            size, x, y = entry["crop"].split("+")
            entry["crop"] = [*map(int, size.split("x")), int(x), int(y)]
    sources = {entry["name"]: source_of(entry) for entry in document["sources"]}
    run = rows("runs.jsonl")[-1]
    made = {row["cell"]: row for row in rows("cells.jsonl")}
    found = 0
    for block in document["grid"]:
        for name in block["sources"]:
            for quality in block["quality"]:
                cell = Cell(
                    window=sources[name],
                    setting=Setting(
                        encoder=ENCODERS[block["encoder"]], preset=block["preset"], quality=quality
                    ),
                )
                row = made[f"{name}/{block['encoder']}/{block['preset']}/{format_quality(quality)}"]
                tools = Tools(
                    ffmpeg="ffmpeg",
                    ffmpeg_version=run["ffmpeg_version"],
                    ffmpeg_sha256=run["ffmpeg_sha256"],
                    libvmaf_version=run["libvmaf_version"],
                )
                argv = encode_argv(cell)
                assert (cell.id, argv, cell.key(argv, tools)) == (
                    row["cell"],
                    row["argv"],
                    row["key"],
                )
                found += 1
    assert found == len(made) == 1428


def cell(name: str, **changes: Any) -> Cell:
    row = ENCODERS[name]
    return Cell(
        window=replace(SOURCE, **changes),
        setting=Setting(encoder=row, preset=row.default_preset, quality=row.default_quality[1]),
    )


def cells() -> dict[str, Cell]:
    """One cell for every encoder, and x264 on sources prepared in every way."""
    ways: dict[str, dict[str, Any]] = {
        "crop": {
            "crop": Crop(width=320, height=180, x=8, y=4),
            "scale": None,
            "width": 320,
            "height": 180,
        },
        "raw": {"raw": RAW, "fps": "25"},
        "10 bit": {"pix_fmt": "yuv420p10le"},
        "4:4:4": {"pix_fmt": "yuv444p"},
        "whole": {"start_frame": 0, "num_frames": None, "scale": None},
        "deinterlaced": {"deinterlace": True},
    }
    found = {name: cell(name) for name in ENCODERS}
    found |= {f"libx264 {way}": cell("libx264", **changes) for way, changes in ways.items()}
    found["libsvtav1 10 bit"] = cell("libsvtav1", pix_fmt="yuv420p10le")
    found["libx264 2 threads"] = replace(cell("libx264"), threads=2)
    found["libx264 neg"] = replace(cell("libx264"), teacher="vmaf_v0.6.1neg")
    return found


def pairs() -> dict[str, Pair]:
    """Pairs of every kind: raw, container, scaled, deeper, the full set of features, with a known
    setting.
    """
    whole = replace(SOURCE, start_frame=0, num_frames=None, scale=None)
    other = replace(whole, name="dis", sha256="ef" * 32)
    plain = Pair(
        reference=whole,
        distorted=other,
        made=None,
        teacher="vmaf_v0.6.1",
        features="six",
        kbps=None,
    )
    raw = replace(whole, raw=RAW, fps="25", color=Color())
    return {
        "container": plain,
        "raw": replace(
            plain, reference=raw, distorted=replace(raw, name="dis", sha256="ef" * 32), kbps=500.0
        ),
        "scaled": replace(plain, distorted=replace(other, width=320, height=180)),
        "10 bit": replace(plain, distorted=replace(other, pix_fmt="yuv420p10le")),
        "full": replace(plain, features="full"),
        "setting": replace(plain, made=MadeBy(encoder="libx264", preset="fast", quality=23)),
        "grouped": replace(plain, reference=replace(whole, group="other")),
    }


def identities() -> dict[str, Any]:
    """Id, key and command of every cell and pair above, and the digests of what is committed and
    shipped.
    """
    found: dict[str, Any] = {}
    for name, one in cells().items():
        argv = encode_argv(one)
        found[f"cell {name}"] = {"id": one.id, "key": one.key(argv, TOOLS), "argv": argv}
    for name, pair in pairs().items():
        argv = pair_argv(pair)
        found[f"pair {name}"] = {"id": pair.id, "key": pair.key(argv, TOOLS), "argv": argv}
    return found


def digests() -> dict[str, str]:
    """Digests of the committed corpus, by cells and by frames, and of every shipped file."""
    whole = dataset.load(CORPUS, per_frame=True)
    found = {"corpus": whole.digest, "frames": str(whole.frame_digest)}
    return found | {
        path.name: hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted([*MODELS.glob("*.onnx"), *MODELS.glob(PRIOR_FILE)])
    }


def golden() -> dict[str, Any]:
    found: dict[str, Any] = json.loads(GOLDEN.read_text())
    return found


@pytest.mark.parametrize("name", [f"cell {n}" for n in cells()] + [f"pair {n}" for n in pairs()])
def test_identity(name: str) -> None:
    assert identities()[name] == golden()["identities"][name]


def test_digests_and_shipped_bytes() -> None:
    assert digests() == golden()["digests"]
    registered = {
        e["onnx" if "onnx" in e else "file"]: e["sha256"]
        for e in json.loads((MODELS / "registry.json").read_text())["entries"]
    }
    assert registered.items() <= golden()["digests"].items()


def test_frame_rows_of_a_clip(swept: Callable[..., Any]) -> None:
    """The real ffmpeg on a committed clip: the frames that `golden.json` was made with, to the
    digit.
    """
    run = swept(
        ROOT / "tests/media/clips/vizdoom_game.mp4",
        frames=6,
        scale="320x180",
        quality="30",
        presets="veryfast",
    )
    kept = (
        "key",
        "cell",
        "frame_index",
        "vmaf",
        "vmaf_unclipped",
        "adm2",
        "vif_scale0",
        "vif_scale3",
        "motion2",
    )
    got = [[frame[name] for name in kept] for frame in run.frames]
    if os.environ.get("WRITE_GOLDEN"):
        text = json.dumps(
            {"identities": identities(), "digests": digests(), "frames": got}, indent=1
        )
        GOLDEN.write_text(text + "\n")
    assert got == golden()["frames"]
