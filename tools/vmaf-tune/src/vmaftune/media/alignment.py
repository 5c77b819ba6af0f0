"""Do two clips show the same frame at the same index? Pure: a filter graph, its logs' parsers, and
a judgement.

Pairs are made by others, so a frame of offset is the likeliest way to a wrong score. The luma error
of every frame at every offset is taken in the pass that scores: five psnr filters on planes that
are decoded anyway, no second decode and no raw frames on the disk. Which 25 frames count is chosen
afterwards, by libvmaf's own motion.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

OFFSETS = (-2, -1, 0, 1, 2)
REACH = max(OFFSETS)
NUM_FRAMES = 25
MARGIN_DB = 0.3
NUM_DETAIL_FRAMES = 8
# 35 x264 encodes of 5 clips (CRF 10-40) had 0.56-1.00 of their reference's fine detail; the inverse
# is what a swap shows: 1.02 or more from CRF 25 on, and too little to tell for better encodes.
SWAP_RATIO = 1.02
# psnr writes its errors with two decimals: below this an error is not told from none.
_LEAST_ERROR = 0.01

SUSPECT, UNVERIFIABLE, SWAP = "suspect_alignment", "alignment_unverifiable", "possible_swap"
ROLES = ("distorted", "reference")
_ERROR = re.compile(r"\bmse_y:(\S+)")


@dataclass(frozen=True, slots=True, kw_only=True)
class Alignment:
    """What the offsets say. `psnr_db` is luma PSNR in dB by offset of the distorted clip, over
    `num_frames` frames.

    `detail` is the fine detail of the distorted clip over that of the reference; None where the
    reference has none.
    """

    num_frames: int
    psnr_db: Mapping[int, float]
    detail: float | None

    @property
    def best(self) -> int:
        """The offset with the greatest PSNR; 0 when no frame could be judged."""
        return max(self.psnr_db, key=lambda o: (self.psnr_db[o], o == 0), default=0)

    @property
    def flags(self) -> tuple[str, ...]:
        """Another offset better by more than 0.3 dB, or all within 0.3 dB; and a
        hint of a swap.
        """
        found = []
        values = self.psnr_db.values()
        if not values or max(values) - min(values) <= MARGIN_DB:
            found.append(UNVERIFIABLE)
        elif max(values) - self.psnr_db[0] > MARGIN_DB:
            found.append(SUSPECT)
        if self.detail is not None and self.detail > SWAP_RATIO:
            found.append(SWAP)
        return tuple(found)

    def row(self) -> dict[str, object]:
        """The facts as a cell row holds them."""
        return {
            "num_frames": self.num_frames,
            "best_offset": self.best,
            "psnr_db": {str(o): round(v, 3) for o, v in self.psnr_db.items()},
            "detail_ratio": None if self.detail is None else round(self.detail, 4),
        }


def log_name(what: int | str) -> str:
    """The file, in the working folder, that takes the errors of one offset, or the detail of one
    role.
    """
    return f"offset{what:+d}.log" if isinstance(what, int) else f"detail_{what}.log"


def graph(distorted: str, reference: str, num_frames: int) -> str:
    """Filters that measure the links `distorted` and `reference` (planar yuv, stamped by index) at
    every offset.

    At offset o frame i of the reference meets frame i + o of the distorted clip. Fine detail is
    what a 3x3 mean takes away, of 8 to 15 frames of each (blurring all would cost a third of the
    scoring).
    """
    every = max(1, num_frames // NUM_DETAIL_FRAMES)
    parts = []
    for side, link, role in (("d", distorted, "distorted"), ("r", reference, "reference")):
        names = [f"{side}{i}" for i in range(len(OFFSETS))]
        parts += [
            f"[{link}]extractplanes=y,split={len(names) + 1}"
            + "".join(f"[{n}]" for n in names)
            + f"[{side}_all]",
            f"[{side}_all]select='not(mod(n,{every}))',split[{side}_sharp][{side}_some]",
            f"[{side}_some]avgblur=sizeX=1[{side}_soft]",
            f"[{side}_soft][{side}_sharp]psnr=stats_file={log_name(role)},nullsink",
        ]
    for i, offset in enumerate(OFFSETS):
        for name, begin in ((f"d{i}", max(offset, 0)), (f"r{i}", max(-offset, 0))):
            parts.append(f"[{name}]trim=start_frame={begin},setpts=N*40000[{name}_at]")
        parts.append(
            f"[d{i}_at][r{i}_at]psnr=stats_file={log_name(offset)}:shortest=1:repeatlast=0,nullsink"
        )
    return ";".join(parts)


def parse_errors(text: str) -> list[float]:
    """Mean squared luma errors, one per frame, from a log of the psnr filter."""
    return [float(value) for value in _ERROR.findall(text)]


def detail_ratio(distorted: Sequence[float], reference: Sequence[float]) -> float | None:
    """Amplitude of the fine detail of one clip over the other's, from squared amplitudes; None
    without any in the second.
    """
    return math.sqrt(sum(distorted) / sum(reference)) if sum(reference) > 0 else None


def choose(motion: Sequence[float]) -> list[int]:
    """Up to 25 frames that exist at every offset: of 25 equal parts of the clip, the one that moves
    most in each.

    `motion` is motion2 per frame: the smaller of the differences to the frame before and the one
    after, so that a cut, which tells nothing about either side, is not preferred.
    """
    inside = range(REACH, len(motion) - REACH)
    count = min(NUM_FRAMES, len(inside))
    parts = [
        inside[i * len(inside) // count : (i + 1) * len(inside) // count] for i in range(count)
    ]
    return [max(part, key=lambda i: motion[i]) for part in parts]


def judge(
    errors: Mapping[int, Sequence[float]], motion: Sequence[float], peak: int, detail: float | None
) -> Alignment:
    """PSNR at every offset from the mean error of the chosen frames.

    `errors` by offset: per overlapping frame, in order. `motion` is motion2 of every frame, `peak`
    255 or 1023.
    """
    chosen = choose(motion)
    psnr: dict[int, float] = {}
    for offset in OFFSETS if chosen else ():
        first = max(-offset, 0)  # the reference frame of the log's first line
        mean = sum(errors[offset][i - first] for i in chosen) / len(chosen)
        psnr[offset] = 10 * math.log10(peak**2 / max(mean, _LEAST_ERROR))
    return Alignment(num_frames=len(chosen), psnr_db=psnr, detail=detail)
