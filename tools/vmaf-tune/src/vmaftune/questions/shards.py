"""A part of a sweep for one of several machines that know nothing of each other.

Sources stay whole, so that each is prepared by one machine alone; parts are balanced by expected
cost, and the same command cuts the same parts everywhere.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

from vmaftune.errors import UsageError
from vmaftune.request.cells import Plan


@dataclass(frozen=True, slots=True, kw_only=True)
class Shard:
    """Part `number` of `count`, from 1."""

    number: int
    count: int

    @property
    def suffix(self) -> str:
        """What tells its folder from those of the other parts."""
        return f"-{self.number}of{self.count}"


def parse_shard(text: str) -> Shard:
    """`3/8` as the third of eight parts. Raises UsageError."""
    match = re.fullmatch(r"(\d{1,6})/(\d{1,6})", text.strip())
    if match is None or not 1 <= int(match[1]) <= int(match[2]):
        raise UsageError(
            f"--shard takes NUMBER/COUNT such as 3/8, the third of eight, not {text!r}"
        )
    return Shard(number=int(match[1]), count=int(match[2]))


def part_of(plan: Plan, shard: Shard) -> Plan:
    """The cells of one part: each source goes to the part with the least work so far, the most
    expensive source first. Raises UsageError for a part without a source.
    """
    costs: dict[str, float] = {}
    for cell in plan.cells:
        seconds = cell.expected_encode_s + cell.expected_score_s
        costs[cell.window.name] = costs.get(cell.window.name, 0.0) + seconds
    loads = [0.0] * shard.count
    mine = set()
    for name in sorted(costs, key=lambda name: (-costs[name], name)):
        part = loads.index(min(loads))
        loads[part] += costs[name]
        if part == shard.number - 1:
            mine.add(name)
    if not mine:
        raise UsageError(
            f"--shard {shard.number}/{shard.count}: this sweep has {len(costs)} sources, which are"
            " not divided; use fewer parts"
        )
    return replace(
        plan,
        cells=tuple(cell for cell in plan.cells if cell.window.name in mine),
        sources=tuple(window for window in plan.sources if window.name in mine),
    )
