"""Which frames of a file are keyframes: read from its packets, where a player looks too."""

from __future__ import annotations

from pathlib import Path


def keyframes(file: Path) -> tuple[int, ...]:
    """Numbers of the frames, in the order in which they are shown, at which decoding can begin."""
    import av

    with av.open(str(file)) as opened:
        stream = opened.streams.video[0]
        packets = [(p.pts or 0, p.is_keyframe) for p in opened.demux(stream) if p.size]
    shown = sorted(packets)
    return tuple(number for number, (_, is_key) in enumerate(shown) if is_key)
