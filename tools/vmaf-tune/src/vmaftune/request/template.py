"""Fixed ladders that a film's own is compared with: Apple's, or a file's.

[[rung]]
lines = 1080
kbps = 6000
"""

from __future__ import annotations

import math
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vmaftune.errors import UsageError


@dataclass(frozen=True, slots=True, kw_only=True)
class FixedRung:
    """A rung of a fixed ladder: the picture's shorter side in lines, and kbit/s."""

    lines: int
    kbps: float


_APPLE = (
    (1080, 7800),
    (1080, 6000),
    (720, 4500),
    (720, 3000),
    (540, 2000),
    (432, 1100),
    (432, 730),
    (360, 365),
    (234, 145),
)
TEMPLATES: Mapping[str, tuple[FixedRung, ...]] = {
    # HLS Authoring Specification for Apple Devices, the table of H.264 variants at 16:9
    "apple": tuple(FixedRung(lines=lines, kbps=kbps) for lines, kbps in _APPLE)
}


def read_template(text: str) -> tuple[FixedRung, ...]:
    """The rungs of `apple`, or of a TOML file, the highest bitrate first. Raises UsageError."""
    if text in TEMPLATES:
        return TEMPLATES[text]
    path = Path(text)
    if not path.is_file():
        known = ", ".join(TEMPLATES)
        raise UsageError(f"--template {text}: there is no such file; use {known}, or a TOML file")
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as failure:
        raise UsageError(f"--template {text} is not a readable TOML file: {failure}") from failure
    entries = document.get("rung")
    if not isinstance(entries, list) or not entries:
        raise UsageError(f"--template {text} has no [[rung]]; give each lines and kbps")
    rungs = [_rung(text, number, entry) for number, entry in enumerate(entries, start=1)]
    return tuple(sorted(rungs, key=lambda rung: -rung.kbps))


def _rung(text: str, number: int, entry: object) -> FixedRung:
    values: dict[str, Any] = entry if isinstance(entry, dict) else {}
    lines, kbps = values.get("lines", 0), values.get("kbps", 0)
    is_size = type(lines) is int and lines >= 64
    is_rate = type(kbps) in (int, float) and 0 < kbps < math.inf
    if not is_size or not is_rate or len(values) > 2:
        raise UsageError(
            f"--template {text}, rung {number}: it takes lines (64 or more) and kbps (above 0)"
        )
    return FixedRung(lines=int(lines), kbps=float(kbps))
