"""What a gate says: checks, each with its value, its limit and whether it passes."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Final, Literal

PASS: Final = "pass"
HOLD: Final = "hold"
NOT_APPLICABLE: Final = "n/a"
Value = float | int | str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """One line of the verdict. `value` is what was found (None when nothing could be), `note` the
    reason behind it.
    """

    section: int
    name: str
    value: Value
    limit: str
    verdict: Literal["pass", "hold", "n/a"]
    note: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Written:
    """A verdict as verdict.json and the sidecar's `gate` hold it."""

    model_id: str
    verdict: Literal["pass", "hold"]
    figures: Mapping[str, float]
    checks: tuple[Check, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What the gate decided. `figures` are the held-out means that a later candidate is compared
    with.
    """

    model_id: str
    checks: tuple[Check, ...]
    figures: Mapping[str, float]

    @property
    def held(self) -> tuple[Check, ...]:
        """The checks that stand in the way."""
        return tuple(c for c in self.checks if c.verdict == HOLD)

    @property
    def passed(self) -> bool:
        """True when nothing holds the candidate back."""
        return not self.held

    def to_json(self) -> dict[str, object]:
        """The verdict as a JSON value."""
        written = Written(
            model_id=self.model_id,
            verdict=PASS if self.passed else HOLD,
            figures=dict(self.figures),
            checks=self.checks,
        )
        return {**asdict(written), "checks": [asdict(check) for check in self.checks]}


def at_most(section: int, name: str, value: float | None, limit: float, note: str = "") -> Check:
    """A check that a value is there and no larger than `limit`; NaN is held."""
    fits = value is not None and value <= limit
    return _limited(section, name, value, f"<= {limit:g}", fits, note)


def at_least(section: int, name: str, value: float | None, limit: float, note: str = "") -> Check:
    """A check that a value is there and no smaller than `limit`; NaN is held."""
    fits = value is not None and value >= limit
    return _limited(section, name, value, f">= {limit:g}", fits, note)


def _limited(
    section: int, name: str, value: float | None, limit: str, fits: bool, note: str
) -> Check:
    found = value if value is None or math.isfinite(value) else None
    return Check(
        section=section,
        name=name,
        value=found,
        limit=limit,
        verdict=PASS if fits else HOLD,
        note=note,
    )


def must(section: int, name: str, problem: str | None, value: str = "yes") -> Check:
    """A check that there is no problem; `problem` is the sentence that says which."""
    return Check(
        section=section,
        name=name,
        value="no" if problem else value,
        limit="yes",
        verdict=HOLD if problem else PASS,
        note=problem or "",
    )


def told(section: int, name: str, value: Value, note: str, limit: str = "none") -> Check:
    """A line that is printed and holds nothing back."""
    return Check(
        section=section, name=name, value=value, limit=limit, verdict=NOT_APPLICABLE, note=note
    )
