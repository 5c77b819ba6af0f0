"""Texts of flags and sweep files -> values: lists and ranges, values per encoder, sizes, times,
rates.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Generic, TypeVar

from vmaftune.encoders import format_quality, select
from vmaftune.errors import UsageError
from vmaftune.media.probe import MAX_SIDE

MAX_VALUES = 1000
MAX_SECONDS = 10**7
T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Axis(Generic[T]):
    """Values of one axis of a grid: for every encoder, or by ffmpeg's encoder name.

    `mentions` are the words that named encoders, each with what it stands for.
    """

    common: tuple[T, ...] = ()
    named: Mapping[str, tuple[T, ...]] = field(default_factory=dict)
    mentions: Mapping[str, frozenset[str]] = field(default_factory=dict)

    def of(self, encoder: str) -> tuple[T, ...]:
        """The values of an encoder; none where nothing was said of it."""
        return self.named.get(encoder, self.common)

    def over(self, other: Axis[T]) -> Axis[T]:
        """These values where they say something, else those of `other`."""
        if self.common:
            return self
        return Axis(
            common=other.common,
            named={**other.named, **self.named},
            mentions={**other.mentions, **self.mentions},
        )

    def check_among(self, encoders: Collection[str], what: str) -> None:
        """Raises UsageError for a word that stands for none of `encoders`."""
        for word, names in self.mentions.items():
            if not names & set(encoders):
                raise UsageError(
                    f"{what} names {word}, which is not among the encoders of this sweep"
                )


@dataclass(frozen=True, slots=True, kw_only=True)
class OptionWish:
    """An option set as it was written; an empty text is the encoder as it is."""

    text: str
    name: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Size:
    """A picture's size; a side that is None follows from the other by the aspect ratio, even."""

    width: int | None
    height: int | None

    def of(self, width: int, height: int) -> tuple[int, int]:
        """This size for a picture of `width` x `height` pixels."""
        if self.width is None and self.height is not None:
            return _even(Fraction(width * self.height, height)), self.height
        if self.height is None and self.width is not None:
            return self.width, _even(Fraction(height * self.width, width))
        return self.width or width, self.height or height


def _even(value: Fraction) -> int:
    return max(2, 2 * round(value / 2))


def words(text: str | None) -> tuple[str, ...]:
    """The words of a list with commas, `nvenc, qsv`; none for None."""
    return tuple(part.strip() for part in (text or "").split(",") if part.strip())


def refuse_empty(given: Mapping[str, object]) -> None:
    """Raises UsageError for a flag, by its name, whose value is empty (think of --quality "$Q")."""
    for name, value in given.items():
        if value == "" or isinstance(value, list) and "" in value:
            what = "a source" if name == "sources" else f"--{name.replace('_', '-')}"
            raise UsageError(f"{what} is empty; leave it out, or give it a value")


def parse_values(text: str, what: str) -> tuple[str, ...]:
    """A list (`19,25`) or a range with its end (`19:37:6`) as the texts of its values. Raises
    UsageError.
    """
    values: list[str] = []
    for part in (p.strip() for p in text.split(",")):
        if not part:
            raise UsageError(
                f"{what}: {text!r} holds an empty value; write it like 19,25 or 19:37:6"
            )
        values += _parse_range(part, what) if ":" in part else [part]
    if len(set(values)) != len(values):
        raise UsageError(f"{what}: {text!r} names a value twice")
    return tuple(values)


def _parse_range(text: str, what: str) -> list[str]:
    try:
        low, high, step = (Fraction(p) for p in text.split(":"))
    except (ValueError, ZeroDivisionError) as failure:
        raise UsageError(
            f"{what}: a range is START:END:STEP such as 19:37:6, not {text!r}"
        ) from failure
    if step <= 0 or high < low or (high - low) / step > MAX_VALUES:
        raise UsageError(
            f"{what}: the range {text} is empty or longer than {MAX_VALUES}; START:END:STEP goes"
            " upward"
        )
    count = int((high - low) / step) + 1
    return [format_quality(float(low + i * step)) for i in range(count)]


def read_axis(value: object, what: str) -> Axis[str]:
    """Presets or quality values as a flag or a sweep file gives them: a text
    (`19,25` or `x264=20;svtav1=30:50:10`), a list, a number, or a table per encoder.
    """
    if value is None:
        return Axis()
    if isinstance(value, str):
        return _split_axis(value, what, lambda text, where: parse_values(text, where))
    if isinstance(value, dict):
        return _named_axis(
            [(word, _listed(values, f"{what} of {word}")) for word, values in value.items()], what
        )
    return Axis(common=_listed(value, what))


def _listed(value: object, what: str) -> tuple[str, ...]:
    """A list, number or text of a sweep file as the texts of its values."""
    if isinstance(value, str):
        return parse_values(value, what)
    if isinstance(value, bool) or not isinstance(value, int | float | list):
        raise UsageError(
            f"{what}: {value!r} is not understood; use a text, a list, or a table per encoder"
        )
    entries = value if isinstance(value, list) else [value]
    return parse_values(",".join(str(entry) for entry in entries), what)


def read_options(value: object, what: str) -> Axis[OptionWish]:
    """Option sets as a flag or a sweep file gives them: a text with `|` between the sets
    (`-tune film|-tune animation`, or `x264=-tune film|;svtav1=...`), a list of texts and of tables
    with `name` and `args`, or a table per encoder.
    """
    if value is None:
        return Axis()
    if isinstance(value, str):
        return _split_axis(value, what, lambda text, where: _option_wishes(text, where))
    if isinstance(value, dict):
        return _named_axis(
            [(word, _option_wishes(sets, f"{what} of {word}")) for word, sets in value.items()],
            what,
        )
    return Axis(common=_option_wishes(value, what))


def _option_wishes(value: object, what: str) -> tuple[OptionWish, ...]:
    if isinstance(value, str):
        return tuple(OptionWish(text=text.strip()) for text in value.split("|"))
    if not isinstance(value, list):
        raise UsageError(f"{what} takes a text such as -tune film, or a list of them")
    found = []
    for entry in value:
        if isinstance(entry, str):
            found.append(OptionWish(text=entry.strip()))
        elif isinstance(entry, dict) and set(entry) == {"name", "args"}:
            found.append(OptionWish(text=str(entry["args"]), name=str(entry["name"])))
        else:
            raise UsageError(
                f"{what}: {entry!r} is not an option set; write -tune film, or a table with"
                " name and args"
            )
    return tuple(found)


def _split_axis(text: str, what: str, parse: Callable[[str, str], tuple[T, ...]]) -> Axis[T]:
    """A text that may name an encoder for each of its parts: `x264=20,26;svtav1=30`."""
    parts = [part.strip() for part in text.split(";") if part.strip()]
    if not parts:
        raise UsageError(f"{what} is empty; leave it out, or give it a value")
    named = [_ENCODER_AND_VALUE.fullmatch(part) for part in parts]
    if len(parts) > 1 and not any(named):
        raise UsageError(
            f"{what}: {text!r} has several lists; name the encoder of each, like"
            " x264=20,26;svtav1=30"
        )
    if not any(named):
        return Axis(common=parse(parts[0], what))
    pairs = []
    for part, match in zip(parts, named, strict=True):
        if match is None:
            raise UsageError(f"{what}: {part!r} names no encoder; write it like x264={part}")
        word = match["word"].strip()
        pairs.append((word, parse(match["value"], f"{what} of {word}")))
    return _named_axis(pairs, what)


_ENCODER_AND_VALUE = re.compile(r"(?P<word>[^-=|][^=|]*)=(?P<value>.*)", re.S)


def _named_axis(pairs: Sequence[tuple[str, tuple[T, ...]]], what: str) -> Axis[T]:
    named: dict[str, tuple[T, ...]] = {}
    mentions: dict[str, frozenset[str]] = {}
    for word, values in pairs:
        rows = select([word]).encoders
        mentions[word] = frozenset(row.name for row in rows)
        for row in rows:
            if row.name in named:
                raise UsageError(f"{what} names {row.name} twice")
            named[row.name] = values
    return Axis(named=named, mentions=mentions)


def parse_scale(text: str, what: str = "--scale") -> Size:
    """A size as ffmpeg's users write it: `640x360`, `640:360`, `320x-1`, `360p`. Raises
    UsageError.
    """
    wanted = text.strip()
    lines = re.fullmatch(r"(\d+)p", wanted)
    match = re.fullmatch(r"(\d+|-[12])[x:](\d+|-[12])", wanted)
    sides = [None, int(lines[1])] if lines else None
    if match:
        sides = [int(side) if int(side) >= 0 else None for side in match.groups()]
    if sides is None or sides == [None, None]:
        raise UsageError(f"{what} takes WIDTHxHEIGHT such as 640x360, 640x-1 or 360p, not {text!r}")
    return Size(width=_side(sides[0], what), height=_side(sides[1], what))


def parse_sizes(value: object, what: str = "--sizes") -> tuple[Size, ...]:
    """Sizes of encodes: heights (`1080,720`) and WIDTHxHEIGHT, as a text or a list. Raises
    UsageError.
    """
    if value is None:
        return ()
    entries = value if isinstance(value, list) else [value]
    texts = [part for entry in entries for part in parse_values(str(entry), what)]
    found = tuple(
        Size(width=None, height=_side(int(text), what))
        if re.fullmatch(r"\d+", text)
        else parse_scale(text, what)
        for text in texts
    )
    if len(set(found)) != len(found):
        raise UsageError(f"{what}: {value!r} names a size twice")
    return found


def _side(value: int | None, what: str) -> int | None:
    if value is not None and not 1 <= value <= MAX_SIDE:
        raise UsageError(
            f"{what} takes WIDTHxHEIGHT with sides from 1 to {MAX_SIDE} pixels, not {value}"
        )
    return value


def parse_time(value: object, what: str = "--start") -> Fraction:
    """A time in a film: seconds (`12.5`) or `HH:MM:SS` with a fraction. Raises UsageError."""
    text = str(value).strip()
    try:
        parts = [Fraction(part) for part in text.split(":")]
        if isinstance(value, bool) or len(parts) > 3 or any(part >= 60 for part in parts[1:]):
            raise ValueError
    except (ValueError, ZeroDivisionError) as failure:
        raise UsageError(
            f"{what} takes seconds such as 12.5, or a time such as 00:12:30, not {text!r}"
        ) from failure
    seconds = sum((part * 60**i for i, part in enumerate(reversed(parts))), Fraction(0))
    if min(parts) < 0 or seconds >= MAX_SECONDS:
        raise UsageError(f"{what} is {text}; it takes seconds from 0 to {MAX_SECONDS - 1}")
    return seconds.limit_denominator(10**6)


def parse_bytes(text: str, what: str) -> int:
    """`8`, `8G`, `512M`, `8 GiB` as bytes; a bare number counts GiB. Raises UsageError."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([kmgt]?)(i?b)?", text.strip(), re.IGNORECASE)
    size = float(match[1]) * 1024 ** ("kmgt".index((match[2] or "g").lower()) + 1) if match else 0
    if not 1 <= size < 2**63:
        raise UsageError(f"{what} takes a size such as 8GiB or 500MiB, not {text!r}")
    return int(size)


def parse_kbps(value: object, what: str) -> int:
    """A bitrate in kbit/s: `2000`, `2000k` or `2.5M`. Raises UsageError."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)([kKmM]?)", str(value).strip())
    unit = 1000 if match and match[2] in ("m", "M") else 1
    rate = Fraction(match[1]) * unit if match else Fraction(0)
    if isinstance(value, bool) or not 1 <= rate <= 10**7 or rate.denominator != 1:
        raise UsageError(f"{what} takes kbit/s such as 2000, 2000k or 2M, not {value!r}")
    return int(rate)
