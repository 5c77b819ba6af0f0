"""A question that knows all its cells: measure them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Generator, Sequence

from vmaftune.engine.events import CellEvent, EndEvent, Event, NoticeEvent, StartEvent
from vmaftune.engine.rows import Item
from vmaftune.engine.standing import expected_seconds
from vmaftune.engine.study import Study
from vmaftune.request.cells import Plan


def run(plan: Plan, study: Study) -> Generator[Event]:
    """Measure the cells of a plan that its folder does not answer. Yields events, from the notices
    and `start` to `end`.
    """
    notices = plan.notices
    num_done = len(study.state(plan.cells).done)
    if study.options.keep_encodes and num_done:
        notices = (
            *notices,
            f"--keep-encodes: {num_done} finished cells are not encoded again, and no encode of"
            " them is kept now",
        )
    yield from measure(plan.cells, notices, study)


def measure(items: Sequence[Item], notices: Sequence[str], study: Study) -> Generator[Event]:
    """Measure cells or pairs. Yields events, from the notices and `start` to `end`."""
    for notice in (*notices, *study.notices):
        yield NoticeEvent(message=notice)
    state, options = study.state(items), study.options
    yield StartEvent(
        folder=str(study.folder),
        num_cells=len(items),
        num_done=len(state.done),
        num_failed=len(state.failed),
        num_left=len(state.left),
        jobs=options.jobs,
        expected_s=round(expected_seconds(state.left, options.jobs), 1),
    )
    counts: Counter[str] = Counter()
    study.submit(items)
    for event in study.events():
        if isinstance(event, CellEvent):
            counts[event.status] += 1
        yield event
    carried = 0 if options.retry_failed else len(state.failed)
    yield EndEvent(
        num_ok=counts["ok"],
        num_failed=counts["failed"] + carried,
        num_done=len(state.done) + counts["ok"],
        num_cells=len(items),
    )
