"""A film that was joined from shots plays in Chromium, lasts as long as it should, and shows at
every time the picture of that time.
"""

from __future__ import annotations

import base64
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from vmaftune.media.ffmpeg import Ffmpeg
from vmaftune.media.join import join

RATE, LENGTH = Fraction(24000, 1001), 48
CLIPS = ("bbb", "acrobat", "city_night")
FOLDER = Path(__file__).parents[1] / "media/clips"
WIDTH, HEIGHT = 192, 108
TAGS = "range=tv:color_primaries=bt709:color_trc=bt709:colorspace=bt709"
ENCODERS = {
    "libx264": ("-preset", "veryfast"),
    "libsvtav1": ("-preset", "11", "-svtav1-params", "lp=1"),
    "libvpx-vp9": ("-deadline", "realtime", "-cpu-used", "8", "-b:v", "0"),
}
PAGE = """async text => {
  const bytes = Uint8Array.from(atob(text), c => c.charCodeAt(0));
  const video = document.createElement('video');
  video.muted = true;
  document.body.append(video);
  const ready = new Promise((yes, no) => {
    video.onloadeddata = () => yes(video.duration);
    video.onerror = () => no(new Error(video.error.message));
  });
  video.src = URL.createObjectURL(new Blob([bytes]));
  return await ready;
}"""
SEEK = """async seconds => {
  const video = document.querySelector('video'), canvas = document.createElement('canvas');
  canvas.width = video.videoWidth; canvas.height = video.videoHeight;
  await new Promise(yes => { video.onseeked = yes; video.currentTime = seconds; });
  const drawn = canvas.getContext('2d');
  drawn.drawImage(video, 0, 0);
  const pixels = [...drawn.getImageData(0, 0, canvas.width, canvas.height).data];
  return pixels.filter((_, i) => i % 4 === 1);
}"""
PLAY = """async () => {
  const video = document.querySelector('video');
  video.currentTime = 0;
  await new Promise((yes, no) => {
    video.onended = yes; video.onerror = () => no(new Error(video.error.message)); video.play();
  });
  const seen = video.getVideoPlaybackQuality();
  return [video.currentTime, seen.totalVideoFrames, seen.corruptedVideoFrames || 0];
}"""


def parts(encoder: str, folder: Path, run_ffmpeg: Callable[..., str]) -> list[tuple[Path, int]]:
    """A clip each, encoded as a sweep does, at another value each."""
    made = []
    for i, clip in enumerate(CLIPS):
        path = folder / f"{clip}.mkv"
        size = f"scale={WIDTH}:{HEIGHT},setsar=1,setparams={TAGS}"
        look = f"{size},settb=1/24000,setpts=N*1001,fps={RATE}"
        args = ("-c:v", encoder, *ENCODERS[encoder], "-crf", str(22 + 6 * i), "-frames:v", "48")
        run_ffmpeg("-i", FOLDER / f"{clip}.mp4", "-an", "-vf", look, *args, path)
        made.append((path, LENGTH))
    return made


@pytest.mark.parametrize(
    ("encoder", "suffix"),
    [("libx264", ".mp4"), ("libsvtav1", ".mp4"), ("libvpx-vp9", ".webm")],
)
def test_it_plays_and_seeks(
    encoder: str,
    suffix: str,
    chromium: Any,
    real: Ffmpeg,
    run_ffmpeg: Callable[..., str],
    tmp_path: Path,
) -> None:
    out = tmp_path / f"joined{suffix}"
    join(parts(encoder, tmp_path, run_ffmpeg), RATE, out, real, 120)
    with av.open(str(out)) as opened:
        frames = [frame.to_ndarray(format="rgb24")[..., 1] for frame in opened.decode(video=0)]
    page = chromium.new_page()
    seconds = page.evaluate(PAGE, base64.b64encode(out.read_bytes()).decode())
    assert abs(seconds - len(frames) / RATE) < 0.01
    middle = [LENGTH * i + LENGTH // 2 for i in range(len(CLIPS))]
    for at in (*reversed(middle), 0, LENGTH - 1, LENGTH, 2 * LENGTH - 1, 2 * LENGTH):
        shown = page.evaluate(SEEK, float((at + Fraction(1, 2)) / RATE))
        picture = np.array(shown, dtype=float).reshape(HEIGHT, WIDTH)
        off = [float(np.abs(picture - frame).mean()) for frame in frames]
        assert min(range(len(off)), key=off.__getitem__) == at, "the picture of that time"
        others = [off[other] for other in middle if other // LENGTH != at // LENGTH]
        assert 3 * off[at] < min(others), "other shots are other pictures"
    ended, shown_frames, corrupted = page.evaluate(PLAY)
    page.close()
    assert abs(ended - len(frames) / RATE) < 0.05
    assert shown_frames > 0 and corrupted == 0
