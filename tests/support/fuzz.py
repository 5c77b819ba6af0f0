"""Feed every reader files that somebody damaged: `make fuzz` tries 100,000 of them.

A reader may refuse a file with one of our errors, and may answer; it must not end in any other
exception, nor give a score, pooling, feature or number of frames that its frames do not have. What
the frames say is computed here from the JSON lines, by other code than the project's.
"""

from __future__ import annotations

import argparse
import json
import math
import random
import shutil
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from forged import failed, measured, write_folder
from vmaf_train.contract import FEATURES
from vmaf_train.corpus import dataset
from vmaf_train.corpus.ledger import read_ledger
from vmaf_train.errors import TrainError
from vmaf_train.shipping import registry
from vmaftune.commands import status
from vmaftune.engine.folder import Writer
from vmaftune.errors import VmafTuneError
from vmaftune.media.failure import CellFailure
from vmaftune.media.libvmaf_log import parse_log
from vmaftune.media.metrics import parse_extra
from vmaftune.report.read import read as read_report
from vmaftune.request.document import read_document
from vmaftune.request.sweep_file import read_sweep

ROOT = Path(__file__).parents[2]
OURS = (TrainError, VmafTuneError, CellFailure)
ODD = [
    b"null",
    b"0",
    b"-1",
    b"1e308",
    b"-1e308",
    b"1e999",
    b"NaN",
    b"Infinity",
    b"99",
    b"2.5",
    b"true",
    b'""',
    b'"a"',
    b"[]",
    b"{}",
    b"[1]",
    b'{"a": 1}',
    b"12345678901234567890123",
    b'"\\ud800"',
    b'"\xff"',
    b"[" * 3000,
    b'{"a":' * 3000,
    b'"' + b"x" * 5000 + b'"',
    b"\0",
    b"\r\n",
    b"",
    b'"2030-01-01T00:00:00Z"',
    b'"ok"',
    b'"failed"',
    b"100.0000001",
    b"1e-320",
    b"-0.0",
]


class Mutator:
    """Damages bytes, by a seeded generator."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)

    def damaged(self, text: bytes) -> bytes:
        """`text` after one to three kinds of damage."""
        ways = (self._bytes, self._cut, self._lines, self._value, self._value, self._number)
        for _ in range(self._random.choice((1, 1, 1, 2, 3))):
            text = self._random.choice(ways)(text)
        return text

    def _place(self, text: bytes) -> int:
        return self._random.randrange(len(text) + 1)

    def _bytes(self, text: bytes) -> bytes:
        at = self._place(text)
        return text[:at] + self._random.randbytes(self._random.randrange(4)) + text[at + 1 :]

    def _cut(self, text: bytes) -> bytes:
        first, last = sorted((self._place(text), self._place(text)))
        kept, cut = text[:first] + text[last:], text[:last]
        return self._random.choice((kept, cut, text[:last] + text[first:]))

    def _lines(self, text: bytes) -> bytes:
        lines = text.splitlines(keepends=True)
        if not lines:
            return text
        i, j = (self._random.randrange(len(lines)) for _ in range(2))
        match self._random.randrange(4):
            case 0:
                del lines[i]
            case 1:
                lines.insert(j, lines[i])
            case 2:
                lines[i], lines[j] = lines[j], lines[i]
            case _:
                lines[i] = self._random.choice(ODD) + b"\n"
        return b"".join(lines)

    def _value(self, text: bytes) -> bytes:
        """One value after a colon, equals sign or comma becomes an odd one."""
        starts = [i + 1 for i, sign in enumerate(text) if sign in b":=,[" and i + 1 < len(text)]
        if not starts:
            return text
        start = self._random.choice(starts)
        end = start
        while end < len(text) and text[end] not in b",}]\n":
            end += 1
        return text[:start] + b" " + self._random.choice(ODD) + text[end:]

    def _number(self, text: bytes) -> bytes:
        digits = [i for i, sign in enumerate(text) if 48 <= sign <= 57]
        if not digits:
            return text
        at = self._random.choice(digits)
        return text[:at] + bytes([48 + self._random.randrange(10)]) + text[at + 1 :]


def jsonl(text: bytes) -> list[dict[str, Any]]:
    """The whole lines that are objects."""
    found = []
    for line in text.splitlines():
        try:
            row = json.loads(line)
        except (ValueError, RecursionError):
            continue
        if isinstance(row, dict):
            found.append(row)
    return found


def truth(folder: Path) -> dict[tuple[str, str], tuple[int, float, list[float]]]:
    """(frames, mean score, mean features) by key and cell, from the lines themselves."""
    frames: dict[tuple[str, str], list[dict[str, Any]]] = {}
    file = folder / "frames.jsonl"
    for row in jsonl(file.read_bytes() if file.exists() else b""):
        frames.setdefault((str(row.get("key")), str(row.get("cell"))), []).append(row)
    found = {}
    for unit, rows in frames.items():
        try:
            features = [math.fsum(r[name] for r in rows) / len(rows) for name in FEATURES]
            found[unit] = len(rows), math.fsum(r["vmaf"] for r in rows) / len(rows), features
        except (KeyError, TypeError, OverflowError):
            continue
    return found


class Disagrees(AssertionError):
    """A reader gave a number that the frames do not have."""


def agree(found: float, wanted: float, what: str) -> None:
    if not abs(found - wanted) <= 2e-6:
        raise Disagrees(f"{what} is {found}, its frames give {wanted}")


def check_folder(folder: Path) -> None:
    """All readers of a run folder; the writer last, because it mends."""
    told = truth(folder)
    ledger = attempt(lambda: read_ledger(folder))
    for mark in ledger.units.values() if ledger else ():
        if mark.is_ok and mark.unit not in ledger.damaged:
            check_mark(mark, told)
    cells = attempt(lambda: dataset.load(folder, per_frame=False))
    if cells is not None:
        rows = jsonl((folder / "cells.jsonl").read_bytes())
        units = [(str(row.get("key")), str(row.get("cell"))) for row in rows]
        by_key = {unit[0]: told[unit] for unit in units if unit in told}
        for i, key in enumerate(cells.key):
            agree(cells.y[i], by_key[key][1], "y")
            for j, value in enumerate(by_key[key][2]):
                agree(cells.features[i, j], value, FEATURES[j])
    frames = attempt(lambda: dataset.load(folder, per_frame=True))
    if frames is not None and cells is not None:
        for key in set(frames.key):
            agree(float((frames.key == key).sum()), by_key[key][0], "the number of frames")
    attempt(lambda: status.read(folder))
    sweep = attempt(lambda: read_report(folder))
    for point in sweep.points if sweep else ():
        agree(point.vmaf, told[point.key, point.cell][1], "a point")
        agree(point.num_frames, told[point.key, point.cell][0], "frames of a point")
    if attempt(lambda: Writer(folder)) is not None:
        again = read_ledger(folder, everything=True)  # it opened, so it has mended
        told = truth(folder)
        for mark in again.units.values():
            if mark.is_ok and mark.unit not in again.damaged:
                check_mark(mark, told)


def check_mark(mark: Any, told: dict[tuple[str, str], tuple[int, float, list[float]]]) -> None:
    count, mean, features = told[mark.unit]
    agree(mark.num_frames, count, "num_frames")
    agree(mark.pooled[0], mean, "vmaf_score")
    for j, value in enumerate(features):
        agree(mark.features[j], value, FEATURES[j])


def attempt(read: Callable[[], Any]) -> Any:
    """What a reader gives, None when it refuses in a sentence of ours."""
    try:
        return read()
    except OURS as refusal:
        if not str(refusal).strip() or "Traceback" in str(refusal):
            raise Disagrees("an empty sentence") from refusal
        return None


def log_text() -> bytes:
    """A log as libvmaf writes it."""
    row, frames = measured(scores=[91.5, 80.25, 77.0])
    logged = [
        {
            "frameNum": i,
            "metrics": {f"integer_{n}": f[n] for n in FEATURES}
            | {"vmaf": f["vmaf"], "vmaf_unclipped": f["vmaf_unclipped"]},
        }
        for i, f in enumerate(frames)
    ]
    return json.dumps({"version": "3.1.0", "frames": logged}, indent=1).encode()


class Targets:
    """The files that are damaged, and what reads them."""

    def __init__(self, place: Path) -> None:
        self.place = place
        self.folder = place / "run"
        cells = [
            measured(f"clip/libx264/fast/{q}", [95.5 - q, 90.25, 100.0 - q / 3]) for q in range(3)
        ]
        write_folder(self.folder, [*cells, failed("clip/libx264/fast/9")])
        plan = json.loads((ROOT / "runs/phase_a/software/sweep.json").read_text())
        name = plan["sources"][0] | {"name": "clip", "group": "clip", "num_frames": 3}
        block = {"encoder": "libx264", "preset": "fast", "quality": [0, 1, 2, 9]}
        plan |= {"sources": [name], "grid": [block | {"sources": ["clip"]}], "num_cells": 4}
        (self.folder / "sweep.json").write_text(json.dumps(plan, indent=1))
        start = {"started_at": "2026-11-21T00:00:00Z", "jobs": 2, "machine": {"cores": 2}}
        (self.folder / "runs.jsonl").write_text(json.dumps(start) + "\n")
        self.whole = {file.name: file.read_bytes() for file in self.folder.iterdir()}
        self.log = log_text()
        self.registry = (ROOT / "model/tiny/registry.json").read_bytes()
        self.models = shutil.copytree(ROOT / "model", place / "model", symlinks=True)
        sweeps = sorted((ROOT / "tools/vmaf-tune/sweeps").glob("*.toml"))
        self.sweeps = [file.read_bytes() for file in sweeps]

    def try_one(self, kind: str, mutator: Mutator) -> None:
        """Damage a file of this kind and read it."""
        if kind in self.whole:
            shutil.rmtree(self.folder)
            self.folder.mkdir()
            for name, text in self.whole.items():
                (self.folder / name).write_bytes(text)
            (self.folder / kind).write_bytes(mutator.damaged(self.whole[kind]))
            attempt(lambda: read_document(self.folder / "sweep.json"))
            check_folder(self.folder)
        elif kind == "log":
            text = mutator.damaged(self.log).decode(errors="replace")
            scored = attempt(lambda: parse_log(text, "vmaf_v0.6.1"))
            for i, frame in enumerate(scored[1] if scored else ()):
                agree(frame.vmaf, json.loads(text)["frames"][i]["metrics"]["vmaf"], "vmaf")
            attempt(lambda: parse_extra(text))
        elif kind == "registry":
            file = self.models / "tiny/registry.json"
            file.write_bytes(mutator.damaged(self.registry))
            attempt(lambda: registry.load(self.models))
        else:
            file = self.place / "sweep.toml"
            base = self.sweeps[mutator._random.randrange(len(self.sweeps))]
            file.write_bytes(mutator.damaged(base))
            attempt(lambda: read_sweep(file))


KINDS = (
    "cells.jsonl",
    "frames.jsonl",
    "cells.jsonl",
    "frames.jsonl",
    "sweep.json",
    "runs.jsonl",
    "log",
    "log",
    "registry",
    "toml",
)


def run(
    count: int,
    seed: int,
    seconds: float = math.inf,
    first: int = 0,
    tell: Callable[[str], None] = lambda _: None,
) -> tuple[Counter[str], list[str]]:
    """Try `count` files from number `first` on, or as many as fit; how many of each kind, and what
    went wrong. `tell` hears of each failure at once, and how far it is once a minute.
    """
    tried: Counter[str] = Counter()
    wrong: list[str] = []
    begin = said = time.monotonic()
    with tempfile.TemporaryDirectory() as place:
        targets = Targets(Path(place))
        for i in range(first, first + count):
            kind = KINDS[i % len(KINDS)]
            try:
                targets.try_one(kind, Mutator(seed * 1_000_003 + i))
            except (KeyboardInterrupt, SystemExit):
                raise
            except BaseException as failure:
                last = traceback.format_exc().splitlines()[-8:]
                wrong.append(f"{kind}, seed {seed}, file {i}: {failure!r:.200}\n" + "\n".join(last))
                tell(wrong[-1])
            tried[kind] += 1
            now = time.monotonic()
            if now > said + 60:
                said = now
                per_s = tried.total() / (now - begin)
                left_s = (count - tried.total()) / per_s
                tell(f"{tried.total():,} of {count:,}, {per_s:.0f}/s, {left_s / 60:.0f} min left")
            if now > begin + seconds:
                break
    return tried, wrong


def main(words: Sequence[str] | None = None) -> int:
    """Try files and print what went wrong."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--first", type=int, default=0, help="number of the first file")
    args = parser.parse_args(words)

    def tell(what: str) -> None:
        print(what, file=sys.stderr, flush=True)

    tried, wrong = run(args.count, args.seed, first=args.first, tell=tell)
    kinds = ", ".join(f"{kind} {count:,}" for kind, count in sorted(tried.items()))
    print(f"{tried.total():,} damaged files ({kinds}); {len(wrong)} not handled")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
