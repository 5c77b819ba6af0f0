"""What a film says of its light and shape is kept, both ways; what cannot be is said before."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import pytest
from vmaftune import api
from vmaftune.errors import UsageError
from vmaftune.media.hdr10 import hdr10_of, hdr10_of_file
from vmaftune.media.probe import probe
from vmaftune.questions.film import Made
from vmaftune.request.flags import Texts

MASTERING = (34000, 16000, 13250, 34500, 7500, 3000, 15635, 16450, 50, 10_000_000)
DISPLAY = "G(13250,34500)B(7500,3000)R(34000,16000)WP(15635,16450)L(10000000,50)"
TAGS = "color_primaries=bt2020:color_trc=smpte2084:colorspace=bt2020nc:range=tv"
SAR = Fraction(4, 3)
PRESETS = {"x264": "ultrafast", "x265": "ultrafast", "svtav1": "11", "vp9": "realtime"}


@pytest.fixture(scope="session")
def hdr(run_ffmpeg: Callable[..., str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two shots of HDR10 at 10 bits, a second each, with pixels that are not square."""
    out = tmp_path_factory.mktemp("hdr") / "hdr10 film.mkv"
    graph = (
        "testsrc2=size=192x108:rate=24:duration=1[a];mandelbrot=size=192x108:rate=24,"
        "trim=duration=1[b];[a][b]concat,format=yuv420p10le,"
        f"setparams={TAGS},setsar={SAR.numerator}/{SAR.denominator}"
    )
    params = f"log-level=none:hdr10=1:repeat-headers=1:master-display={DISPLAY}:max-cll=1000,400"
    args = ("-c:v", "libx265", "-preset", "ultrafast", "-crf", "10", "-x265-params", params)
    run_ffmpeg("-f", "lavfi", "-i", graph, *args, out)
    return out


def test_the_probe_reads_what_the_film_says_of_its_light(hdr: Path) -> None:
    facts = probe(hdr)
    assert facts.hdr10 is not None and facts.dynamic == ()
    assert facts.hdr10.mastering == MASTERING and facts.hdr10.light == (1000, 400)
    assert facts.hdr10.arguments() == [
        "-mastering_display:v:0",
        DISPLAY,
        "-content_light:v:0",
        "1000,400",
    ]


def encoded(film: Path, out: Path, way: str, encoder: str, **more: Any) -> tuple[Made, list[str]]:
    """A film at one quality value, and the notices on the way."""
    said: list[str] = []
    value = 30
    made = api.encode(
        film,
        out,
        encoder=encoder,
        preset=PRESETS.get(encoder),
        way=way,
        quality=value if way == "whole" else None,
        wanted=api.Wanted(target=60, min_quality=value, max_quality=value, **more),
        running=api.Running(out=out.with_suffix(".run"), jobs=2),
        texts=Texts(allow="hdr"),
        on_event=lambda event: said.append(getattr(event, "message", "")),
    )
    return made, said


@pytest.mark.parametrize("way", ["whole", "shots"])
@pytest.mark.parametrize(
    ("encoder", "suffix"),
    [("x264", ".mp4"), ("x265", ".mkv"), ("x265", ".mp4"), ("svtav1", ".mp4"), ("vp9", ".webm")],
)
def test_light_colour_depth_and_shape_are_kept(
    hdr: Path, tmp_path: Path, way: str, encoder: str, suffix: str
) -> None:
    made, said = encoded(hdr, tmp_path / f"out{suffix}", way, encoder)
    assert not [message for message in said if "HDR10" in message]
    with av.open(str(made.out)) as opened:
        video = opened.streams.video[0]
        context = video.codec_context
        frame = next(opened.decode(video))
        assert frame.format.name == "yuv420p10le"
        numbers = (context.color_primaries, context.color_trc, context.colorspace)
        assert [int(n) for n in numbers] == [9, 16, 9], "bt2020, PQ, bt2020nc"
        assert int(context.color_range) == 1
        assert video.sample_aspect_ratio == SAR
        found = hdr10_of(frame)
    wanted = probe(hdr).hdr10
    assert found is not None and wanted is not None and found.is_near(wanted)


def test_what_cannot_be_kept_is_said_before_the_encode(
    hdr: Path, tmp_path: Path, wrapper: Callable[..., str]
) -> None:
    old = wrapper("if '-mastering_display:v:0' in argv and 'libx265' in argv: sys.exit(8)")
    said: list[str] = []
    question, _ = api.encode_question(
        Texts(sources=(str(hdr),), encoders="x265", presets="ultrafast", allow="hdr"),
        api.EncodeJob(out=tmp_path / "out.mkv", way="shots"),
        api.Wanted(),
        api.Running(out=tmp_path / "run", ffmpeg=old),
    )
    said += question.notices
    assert any("does not keep the film's HDR10 metadata" in message for message in said)
    assert not (tmp_path / "run").exists()


def test_hdr_is_not_encoded_at_8_bits(hdr: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="bands"):
        encoded(hdr, tmp_path / "out.mp4", "whole", "h264_nvenc")


def test_a_film_without_hdr10_has_none(film: Callable[..., Any]) -> None:
    path = film("two shots.mkv", shots=2).path
    assert hdr10_of_file(path) is None and probe(path).hdr10 is None
