"""libvmaf's own function on features, against libvmaf."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from vmaf_train import teacher
from vmaf_train.contract import FEATURES
from vmaf_train.corpus import dataset
from vmaf_train.errors import ModelError

ROOT = Path(__file__).parents[1]
CORPUS = ROOT / "runs/phase_a/software"
NEG = "vmaf_v0.6.1neg"


@pytest.fixture(scope="module")
def function(ffmpeg: str) -> teacher.Teacher:
    return teacher.find(Path(ffmpeg))


def features_of(frames: list[dict[str, Any]]) -> np.ndarray:
    return np.array([[frame[name] for name in FEATURES] for frame in frames])


def test_every_frame_of_the_corpus_comes_out_again(function: teacher.Teacher) -> None:
    frames = pd.read_parquet(CORPUS / "frames.parquet")
    found = function.unclipped(frames[list(FEATURES)].to_numpy())
    assert len(frames) == 136_560
    assert np.abs(found - frames["vmaf_unclipped"]).max() <= 1.7e-4
    assert np.abs(np.clip(found, 0, 100) - frames["vmaf"]).max() <= 1.7e-4 < teacher.FRAME_ERROR


def test_on_means_it_is_worth_what_the_readme_says(function: teacher.Teacher) -> None:
    data = dataset.load(CORPUS, per_frame=False)
    off = function.score(data.features) - data.y
    errors = [float(np.sqrt(np.mean(off[data.group == g] ** 2))) for g in data.groups]
    assert np.mean(errors) == pytest.approx(0.2544, abs=1e-4)
    assert max(errors) == pytest.approx(1.0064, abs=1e-4)


def test_a_neg_sweep_holds_the_features_its_score_comes_from(
    function: teacher.Teacher, swept: Callable[..., Any], tmp_path: Path
) -> None:
    """Ordinary features under a NEG score are points off: such rows teach another function."""
    clip = ROOT / "tests/media/clips/vizdoom_game.mp4"
    how = {"frames": 8, "scale": "320x180", "quality": "30", "presets": "veryfast"}
    neg = swept(clip, **how, teacher=NEG, out=tmp_path / "neg")
    plain = swept(clip, **how, out=tmp_path / "plain")
    assert (neg.row["features_of"], plain.row["features_of"]) == (NEG, "vmaf_v0.6.1")
    for run in (neg, plain):
        scores = [frame["vmaf"] for frame in run.frames]
        off = np.abs(function.score(features_of(run.frames)) - scores)
        assert off.max() <= teacher.FRAME_ERROR
        assert function.applies_to(run.row["teacher"], run.row["features_of"])
    ordinary = function.score(features_of(plain.frames))
    assert np.abs(ordinary - [f["vmaf"] for f in neg.frames]).mean() > 0.1
    assert not function.applies_to(NEG, None)  # rows of release 0.1.0 hold the ordinary ones
    assert not function.applies_to("vmaf_4k_v0.6.1", None)


def test_the_phone_score_is_a_polynomial_of_the_unclipped_one(
    function: teacher.Teacher,
    clip: Callable[..., Path],
    run_ffmpeg: Callable[..., str],
    tmp_path: Path,
) -> None:
    source, distorted = clip("phone.mkv", frames=6, size="160x96"), tmp_path / "phone-dis.mkv"
    run_ffmpeg("-i", source, "-c:v", "libx264", "-qp", "44", distorted)
    models = (
        r"version=vmaf_v0.6.1\:name=plain\:disable_clip=true"
        r"|version=vmaf_v0.6.1\:name=phone\:enable_transform=true"
    )
    graph = f"[0:v][1:v]libvmaf=model='{models}':log_fmt=json:log_path=phone.json"
    run_ffmpeg("-i", distorted, "-i", source, "-lavfi", graph, "-f", "null", "-", cwd=tmp_path)
    frames = json.loads((tmp_path / "phone.json").read_text())["frames"]
    plain = [frame["metrics"]["plain"] for frame in frames]
    phone = [frame["metrics"]["phone"] for frame in frames]
    assert max(plain) < 99 and max(phone) > min(plain)
    np.testing.assert_allclose(function.phone(plain), phone, atol=1e-5)


def test_it_is_read_once_for_each_ffmpeg(
    ffmpeg: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    found = teacher.find(Path(ffmpeg))
    (kept,) = (tmp_path / "cache").rglob("*.json")
    monkeypatch.setattr(teacher, "_documents", lambda _: pytest.fail("searched again"))
    assert teacher.find(Path(ffmpeg)).digest == found.digest == teacher.read(kept).digest


@pytest.mark.parametrize("text", ["", "{}", '{"model_dict": {"model_type": "LIBSVMNUSVR"}}'])
def test_what_is_not_the_teacher_gets_a_sentence(tmp_path: Path, text: str) -> None:
    file = tmp_path / "other.json"
    file.write_text(text)
    with pytest.raises(ModelError, match="--teacher-model"):
        teacher.read(file)
    with pytest.raises(ModelError, match="--teacher-model|cannot be read"):
        teacher.find(file)
    with pytest.raises(ModelError, match="cannot be read"):
        teacher.read(tmp_path / "gone.json")


@pytest.mark.parametrize("rows", [[[1, 2]], [1.0] * 6, [[float("nan")] * 6]])
def test_other_shapes_are_refused(function: teacher.Teacher, rows: Any) -> None:
    with pytest.raises(ValueError, match="shape"):
        function.score(rows)
