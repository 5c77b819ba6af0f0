"""Digests of rows: sha256 of canonical JSON, from the row as it was read and never from a type.

Canonical: fields sorted, missing and null the same, 23.0 is 23, no times and no machine facts. So
JSONL and parquet of one corpus have one digest, and a field that a later version adds as null
changes none.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping

from vmaf_train.errors import DatasetError

_MACHINE_FACTS = frozenset({"device", "machine", "host", "hostname"})
_TIMES = ("_at", "_wall_s", "_cpu_s")


def digest(rows: Iterable[Mapping[str, object]], *order: str) -> str:
    """sha256 of the canonical JSON of `rows` sorted by the fields `order`, a line each.

    Raises DatasetError for a number that is not finite.
    """
    lines = [(tuple(_sortable(row.get(name)) for name in order), canonical(row)) for row in rows]
    total = hashlib.sha256()
    for _, text in sorted(lines):
        total.update(text.encode() + b"\n")
    return total.hexdigest()


def canonical(row: Mapping[str, object]) -> str:
    """The canonical JSON of one row. Raises DatasetError for a number that is not finite."""
    try:
        return canonical_value({k: v for k, v in row.items() if counts(k)})
    except ValueError as failure:
        raise DatasetError(
            f"the row of {row.get('cell') or row.get('src')} holds a number that is not finite"
        ) from failure


def counts(name: str) -> bool:
    """False for a field that two measurements of one cell may differ in: a time, or a fact about
    the machine.
    """
    return name not in _MACHINE_FACTS and not name.endswith(_TIMES)


def canonical_value(value: object) -> str:
    """The canonical JSON of one value. Raises ValueError for a number that is not finite."""
    return json.dumps(
        plain(value), sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False
    )


def plain_row(row: Mapping[str, object]) -> dict[str, object]:
    """`plain` of each field of a row, without those that are null."""
    return {name: plain(value) for name, value in row.items() if value is not None}


def plain(value: object) -> object:
    """`value` with whole numbers as int, and no field that is null."""
    if isinstance(value, dict):
        return {k: plain(v) for k, v in value.items() if v is not None}
    if isinstance(value, (list, tuple)):
        return [plain(v) for v in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _sortable(value: object) -> tuple[float, str]:
    if isinstance(value, (int, float)):
        return float(value), ""
    return -1.0, "" if value is None else str(value)
