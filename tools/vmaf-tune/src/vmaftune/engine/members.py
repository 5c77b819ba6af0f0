"""The workers of a cluster: what each is, and whether it would measure what the client measures."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from vmaftune.encoders import ENCODERS
from vmaftune.engine.attempts import WorkerFacts

GONE = "it is gone"


@dataclass(slots=True)
class Member:
    """A worker of the scheduler's list: refused, accepted, or on the way (neither facts nor
    problem).
    """

    name: str
    token: Any
    id: str
    num_threads: int
    resources: Mapping[str, float]
    facts: WorkerFacts | None = None
    problem: str | None = None


def gpu_names(member: Member) -> list[str]:
    """The GPUs that a worker's cells are sent to, with their drivers."""
    devices = member.facts.devices.values() if member.facts else ()
    return list(dict.fromkeys(f"{d.name} {d.driver or ''}".strip() for d in devices))


def unlike(mine: WorkerFacts, theirs: WorkerFacts) -> str | None:
    """Why a worker would measure something else than the client, with both values; None if not."""
    if theirs.problem:
        return theirs.problem
    if theirs.version != mine.version:
        return f"it has vmaf-tune {theirs.version}, and this is {mine.version}"
    if theirs.package != mine.package:
        return (
            f"its vmaf-tune {theirs.version} has other files (digest {theirs.package[:12]}, here"
            f" {mine.package[:12]})"
        )
    ours, other = mine.ffmpeg, theirs.ffmpeg
    assert ours is not None and other is not None
    if other.ffmpeg_sha256 != ours.ffmpeg_sha256:
        return (
            f"its ffmpeg is another one (sha256 {other.ffmpeg_sha256[:12]}, here"
            f" {ours.ffmpeg_sha256[:12]})"
        )
    if other.libvmaf_version != ours.libvmaf_version:
        return f"its libvmaf is {other.libvmaf_version}, here {ours.libvmaf_version}"
    for name, digest in mine.canary.items():
        there = theirs.canary.get(name)
        if ENCODERS[name].kind is None and there != digest:
            return (
                f"{name} gives other bits there than here: a tiny encode is {_short(there)}, here"
                f" {_short(digest)}"
            )
    return None


def _short(digest: str | None) -> str:
    """The beginning of the digest that ffmpeg's streamhash prints."""
    return "none at all" if digest is None else f"sha256 {digest.rpartition('=')[2][:12]}"
