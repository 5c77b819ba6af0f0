"""Windows of films that nobody has, for benches and tests of what handles cells and opens none."""

from __future__ import annotations

from vmaftune.cell import Color, Window


def window(name: str, *, group: str, path: str, sha256: str, num_frames: int, start: int) -> Window:
    """A window of 640x360, 8 bit, 24 frames a second."""
    return Window(
        name=name,
        group=group,
        path=path,
        sha256=sha256,
        size_bytes=1 << 20,
        start_frame=start,
        num_frames=num_frames,
        expected_frames=num_frames,
        crop=None,
        scale=None,
        deinterlace=False,
        width=640,
        height=360,
        pix_fmt="yuv420p",
        fps="24",
        sar="1",
        color=Color(),
        stream_index=0,
        raw=None,
    )


def window_of_film(start: int, num_frames: int = 48) -> Window:
    """A window of one film, told from the others by where it begins."""
    return window(
        f"film@{start}",
        group="film",
        path="film.mkv",
        sha256="0" * 64,
        num_frames=num_frames,
        start=start,
    )
