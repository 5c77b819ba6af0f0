"""Playlists: rates as RFC 8216 counts them, and lines as it writes them."""

from __future__ import annotations

from vmaftune.media.hls import Rate, Sound, Variant, multivariant, rate_of, variant_line

HEAD = '#EXTM3U\n#EXT-X-TARGETDURATION:6\n#EXT-X-MAP:URI="a.mp4",BYTERANGE="800@0"\n'


def playlist(*pieces: tuple[float, int]) -> str:
    lines = [f"#EXTINF:{s:.6f},\n#EXT-X-BYTERANGE:{size}@0\na.mp4\n" for s, size in pieces]
    return HEAD + "".join(lines) + "#EXT-X-ENDLIST\n"


def test_the_peak_is_that_of_pieces_that_last_about_a_target() -> None:
    assert rate_of(playlist((6, 600_000), (6, 900_000))) == Rate(mean=1_000_000, peak=1_200_000)
    # A last piece of one second alone counts for nothing: a player has read what came before it.
    found = rate_of(playlist((6, 600_000), (1, 400_000)))
    assert found.peak == round(8 * 1_000_000 / 7 + 0.5)
    # A film shorter than half a target has its mean.
    assert rate_of(playlist((2, 100_000))) == Rate(mean=400_000, peak=400_000)


def test_a_line_without_a_known_codec_names_none() -> None:
    line = variant_line(peak=2, mean=1, width=640, height=360, frame_rate=23.976)
    assert line == (
        "#EXT-X-STREAM-INF:BANDWIDTH=2,AVERAGE-BANDWIDTH=1,RESOLUTION=640x360,FRAME-RATE=23.976"
    )


def test_rates_hold_the_dearest_sound_and_codecs_are_all_named() -> None:
    rung = Variant(
        playlist="a.m3u8",
        width=640,
        height=360,
        frame_rate=25.0,
        rate=Rate(mean=1000, peak=1500),
        codec="avc1.64001E",
    )
    sounds = [
        Sound(playlist="s.m3u8", name="1 eng", language="eng", rate=rate, codec=codec)
        for rate, codec in ((Rate(mean=10, peak=20), "mp4a.40.2"), (Rate(mean=30, peak=30), "ac-3"))
    ]
    lines = multivariant([rung], sounds).splitlines()
    assert lines[3].endswith('NAME="1 eng",LANGUAGE="eng",DEFAULT=YES,AUTOSELECT=YES,URI="s.m3u8"')
    assert "DEFAULT=NO" in lines[4]
    assert "BANDWIDTH=1530,AVERAGE-BANDWIDTH=1030," in lines[5]
    assert 'CODECS="avc1.64001E,mp4a.40.2,ac-3"' in lines[5] and 'AUDIO="audio"' in lines[5]
    assert lines[6] == "a.m3u8"
