"""Keyframes at fixed frames: every encoder's own way to them, over a cut of the scene."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from vmaftune.encoders import ENCODERS
from vmaftune.media.keyframes import keyframes

GOP, FRAMES = 12, 40
CUT = "select=not(mod(n\\,1)),negate=enable='gte(n,17)',hflip=enable='gte(n,17)'"


def made(
    clip: Callable[..., Path], encoder: str, preset: str, more: tuple[str, ...], name: str
) -> tuple[int, ...]:
    arguments = ENCODERS[encoder].arguments(preset, 40, 1, extra=more)
    args = (*arguments, "-pix_fmt", "yuv420p")
    return keyframes(clip(f"gop {name}.mp4", frames=FRAMES, size="128x96", vf=CUT, args=args))


@pytest.mark.parametrize(
    ("encoder", "preset"),
    [
        ("libx264", "veryfast"),
        ("libx265", "ultrafast"),
        ("libsvtav1", "11"),
        ("libvpx-vp9", "realtime"),
        ("libvpx-vp9", "good"),
        ("libaom-av1", "rt8"),
    ],
)
def test_keyframes_are_where_they_were_asked_for(
    clip: Callable[..., Path], encoder: str, preset: str
) -> None:
    gop = ENCODERS[encoder].with_gop(None, GOP)
    assert gop is not None and gop.name == f"gop={GOP}"
    found = made(clip, encoder, preset, gop.args, f"{encoder} {preset}")
    assert found == tuple(range(0, FRAMES, GOP))


def test_the_length_alone_is_not_enough(clip: Callable[..., Path]) -> None:
    found = made(clip, "libx264", "veryfast", ("-g", str(GOP)), "length alone")
    assert found != tuple(range(0, FRAMES, GOP))


def test_options_of_the_user_stay_beside_it() -> None:
    row = ENCODERS["libx265"]
    options = row.with_gop(row.check_options("-x265-params bframes=2 -tune grain"), 48)
    assert options is not None and options.name == "bframes=2,tune=grain,gop=48"
    argv = row.arguments("fast", 30, 1, extra=options.args)
    (params,) = [b for a, b in zip(argv, argv[1:], strict=False) if a == "-x265-params"]
    assert "pools=1" in params and "bframes=2" in params
    assert params.endswith("keyint=48:min-keyint=48:scenecut=0:open-gop=0")


def test_an_encoder_without_a_way_keeps_its_options() -> None:
    assert ENCODERS["libvvenc"].with_gop(None, 48) is None
