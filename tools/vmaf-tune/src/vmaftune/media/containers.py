"""What an output file can hold, and what of a film goes into it beside the encoded pictures.

The lists are what ffmpeg 9's muxers accept for a plain copy; a stream that is not on its
container's list is refused before anything is encoded, not after hours.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from vmaftune.errors import SourceError, UsageError


@dataclass(frozen=True, slots=True, kw_only=True)
class Container:
    """A kind of output file. None for a list means that anything goes. `cover` says whether a
    picture of the film stays one when it is copied.
    """

    suffix: str
    muxer: str
    video: frozenset[str] | None
    audio: frozenset[str] | None
    subtitle: frozenset[str] | None
    attachments: bool
    cover: bool = False


CONTAINERS: Mapping[str, Container] = {
    ".mkv": Container(
        suffix=".mkv", muxer="matroska", video=None, audio=None, subtitle=None, attachments=True
    ),
    ".mp4": Container(
        suffix=".mp4",
        muxer="mp4",
        video=frozenset({"h264", "hevc", "av1", "vp9", "vvc"}),
        audio=frozenset({"aac", "mp3", "mp2", "ac3", "eac3", "opus", "flac", "alac", "dts"}),
        subtitle=frozenset({"mov_text"}),
        attachments=False,
        cover=True,
    ),
    ".webm": Container(
        suffix=".webm",
        muxer="webm",
        video=frozenset({"vp8", "vp9", "av1"}),
        audio=frozenset({"opus", "vorbis"}),
        subtitle=frozenset({"webvtt"}),
        attachments=False,
    ),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Stream:
    """One stream of a film that is not its main video: its number in the file, kind, codec, and
    language as the file has it (`eng`), None where it says none. The kind `cover` is a still
    picture of the film, `video` another film.
    """

    index: int
    kind: str
    codec: str
    language: str | None = None


def container_of(out: Path) -> Container:
    """The container that the output's name asks for. Raises UsageError for another suffix."""
    found = CONTAINERS.get(out.suffix.lower())
    if found is None:
        known = ", ".join(CONTAINERS)
        raise UsageError(f"{out}: the output's name must end in one of {known}")
    return found


def companions(film: Path) -> tuple[Stream, ...]:
    """All streams of a film but its main video, in its order.

    Raises SourceError when the file cannot be opened.
    """
    import av
    from av.stream import Disposition

    try:
        with av.open(str(film)) as opened:
            covers = {s.index for s in opened.streams if s.disposition & Disposition.attached_pic}
            films = (s.index for s in opened.streams.video if s.index not in covers)
            main = next(films, None)
            return tuple(
                Stream(
                    index=s.index,
                    kind="cover" if s.index in covers else s.type,
                    codec=_codec(s),
                    language=s.language,
                )
                for s in opened.streams
                if s.index != main
            )
    except (OSError, av.error.FFmpegError) as failure:
        raise SourceError(f"{film} cannot be read as a film: {failure}") from failure


def _codec(stream: object) -> str:
    """The codec's own name, `av1`, and not that of a decoder, `libdav1d`."""
    context = getattr(stream, "codec_context", None)
    codec = getattr(context, "codec", None)
    return str(getattr(codec, "canonical_name", None) or "unknown")


def carried(streams: Sequence[Stream]) -> tuple[Stream, ...]:
    """The streams that are copied: audio, subtitles, attachments and covers; data and further films
    never are.
    """
    return tuple(s for s in streams if s.kind in ("audio", "subtitle", "attachment", "cover"))


def fitting(out: Path, streams: Sequence[Stream]) -> tuple[Stream, ...]:
    """The streams without covers where `out` would show them as a film."""
    container = container_of(out)
    return tuple(s for s in streams if s.kind != "cover" or container.cover)


def check_streams(out: Path, video_codec: str, streams: Sequence[Stream]) -> None:
    """Raise UsageError, naming the stream and the way out, for what `out` cannot hold."""
    container = container_of(out)
    if container.video is not None and video_codec not in container.video:
        raise UsageError(
            f"{out}: {container.suffix} holds {', '.join(sorted(container.video))} and not"
            f" {video_codec}; name an output that ends in .mkv"
        )
    for stream in carried(streams):
        if not _fits(container, stream):
            raise UsageError(
                f"{out}: {container.suffix} cannot hold stream {stream.index} of the film"
                f" ({stream.kind}, {stream.codec}); name an output that ends in .mkv, or leave"
                f" such streams out with --no-{_flag(stream)}"
            )


def _fits(container: Container, stream: Stream) -> bool:
    if stream.kind == "cover":
        return container.cover
    if stream.kind == "attachment":
        return container.attachments
    allowed = container.audio if stream.kind == "audio" else container.subtitle
    return allowed is None or stream.codec in allowed


def _flag(stream: Stream) -> str:
    return {"audio": "audio", "subtitle": "subtitles"}.get(stream.kind, "attachments")
