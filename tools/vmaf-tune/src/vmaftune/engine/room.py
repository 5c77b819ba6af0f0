"""The disk space that a plan takes while it is measured."""

from __future__ import annotations

from collections.abc import Sequence

from vmaftune.cell import Window
from vmaftune.engine.references import reference_bytes, reference_id
from vmaftune.engine.windows import AHEAD_BYTES

BUDGET_BYTES = 8 * 2**30


def need_bytes(
    windows: Sequence[Window], budget_bytes: int = BUDGET_BYTES, num_slots: int | None = None
) -> int:
    """Largest disk space that work on `windows` takes at one time: references (bounded by the
    budget) and encodes in flight.

    `num_slots` is how many cells run at once where references are dropped when their cells are
    done; None where they are kept.
    """
    sizes = {reference_id(w): reference_bytes(w) for w in windows}
    if not sizes:
        return 0
    most = max(sizes.values())
    references = max(most, min(sum(sizes.values()), budget_bytes))
    if num_slots is not None:  # a window may be open for each cell that runs, and for the next one
        references = min(references, max(most, AHEAD_BYTES) + 2 * num_slots * most)
    return references + 2 * most // 4 + 64 * 2**20


def too_long(windows: Sequence[Window], budget_bytes: int) -> str | None:
    """A sentence on the first window whose reference is larger than the budget; None for none."""
    window = next((w for w in windows if reference_bytes(w) > budget_bytes), None)
    if window is None:
        return None
    size = reference_bytes(window)
    return (
        f"the reference of {window.name} takes {_binary(size)}, and --scratch-budget allows"
        f" {_binary(budget_bytes)}; measure windows of a film (--samples 12, or --chunk 4), a"
        " shorter one (--frames) or a smaller --scale, or allow more"
    )


def _binary(num_bytes: int) -> str:
    """Bytes in the units that --scratch-budget takes: `1.50 GiB`, `64.00 KiB`."""
    power = min(3, max(1, (num_bytes.bit_length() - 1) // 10))
    return f"{num_bytes / 1024**power:.2f} {'KMG'[power - 1]}iB"
