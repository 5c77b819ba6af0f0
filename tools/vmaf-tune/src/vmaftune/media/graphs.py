"""Filter graphs compiled by ffmpeg-python: values go in unescaped, streams by index."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

# ffmpeg-python has no types; a stream is a node of its graph.
Stream = Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Graph:
    """A filter graph as ffmpeg takes it after `-filter_complex`, and the links to map."""

    text: str
    links: tuple[str, ...]

    @property
    def link(self) -> str:
        """The link of a graph with one end."""
        (link,) = self.links
        return link

    @property
    def maps(self) -> list[str]:
        """The arguments that take every end of the graph into the output."""
        return [word for link in self.links for word in ("-map", link)]


def source(number: int, stream: str) -> Stream:
    """Stream `stream` (`v:0`, or an index such as `2`) of the command's input `number`."""
    import ffmpeg

    return ffmpeg.input(str(number))[stream]


@dataclass(frozen=True, slots=True, kw_only=True)
class Filter:
    """One filter: its name, and its values by place and by name."""

    name: str
    values: tuple[object, ...]
    named: Mapping[str, object]


def part(name: str, *values: object, **named: object) -> Filter:
    """A filter as it is called: `part("scale", 640, 360, flags="bicubic")`."""
    return Filter(name=name, values=values, named=named)


def chain(stream: Stream, filters: Sequence[Filter]) -> Stream:
    """`stream` through `filters`, one after the other."""
    for step in filters:
        stream = stream.filter(step.name, *step.values, **step.named)
    return stream


def both(stream: Stream) -> tuple[Stream, Stream]:
    """A stream for two filters."""
    ends = stream.filter_multi_output("split")
    return ends[0], ends[1]


def compiled(*streams: Stream) -> Graph:
    """The graph that ends in `streams`."""
    import ffmpeg

    argv = ffmpeg.output(*streams, "-").get_args()
    text = argv[argv.index("-filter_complex") + 1]
    # ffmpeg-python numbers inputs in an order of its own; each is called by its number here.
    names = [argv[i + 1] for i, word in enumerate(argv) if word == "-i"]
    text = re.sub(r"\[(\d+)(?=[:\]])", lambda m: f"[{names[int(m[1])]}", text)
    links = tuple(argv[i + 1] for i, word in enumerate(argv) if word == "-map")
    return Graph(text=text, links=links)
