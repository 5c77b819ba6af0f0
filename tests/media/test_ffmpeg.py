"""The embedded ffmpeg is here, scores with libvmaf, and encodes with every software encoder:
nothing else works without.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from vmaftune.encoders import ENCODERS, Encoder
from vmaftune.media.ffmpeg import ENV_FFMPEG, find_ffmpeg, identify
from vmaftune.media.process import Runner

pytestmark = pytest.mark.real
RUNNER = Runner()
CLIP = Path(__file__).parent / "clips" / "bbb.mp4"
SOFTWARE = [row for row in ENCODERS.values() if row.group == "software"]


@pytest.fixture(autouse=True)
def embedded_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(ENV_FFMPEG, raising=False)


def test_the_embedded_ffmpeg_scores_with_libvmaf() -> None:
    tools = identify(RUNNER, find_ffmpeg()).identity
    assert tools.ffmpeg_version
    assert tools.libvmaf_version
    assert len(tools.ffmpeg_sha256) == 64


def test_there_are_six_software_encoders() -> None:
    assert {row.name for row in SOFTWARE} == {
        "libx264",
        "libx265",
        "libsvtav1",
        "libvvenc",
        "libvpx-vp9",
        "libaom-av1",
    }


@pytest.mark.parametrize("encoder", SOFTWARE, ids=lambda row: row.name)
def test_each_software_encoder_makes_a_file_that_decodes(encoder: Encoder, tmp_path: Path) -> None:
    ffmpeg, out = find_ffmpeg(), tmp_path / "out.mkv"
    fastest = encoder.presets[0]
    made = RUNNER.run(
        [
            ffmpeg,
            "-nostdin",
            "-v",
            "error",
            "-i",
            str(CLIP),
            "-frames:v",
            "3",
            "-pix_fmt",
            encoder.pix_fmts[0],
            *encoder.arguments(fastest, encoder.default_quality[0], 1),
            str(out),
        ],
        timeout_s=300,
    )
    assert made.returncode == 0, made.tail
    read = RUNNER.run(
        [ffmpeg, "-nostdin", "-v", "error", "-i", str(out), "-f", "framemd5", "-"],
        timeout_s=300,
    )
    assert read.returncode == 0, read.tail
    frames = [line for line in read.stdout.decode().splitlines() if not line.startswith("#")]
    assert len(frames) == 3
