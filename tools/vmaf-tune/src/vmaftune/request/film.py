"""A film: one whole file as a window, from which questions cut the windows that they measure."""

from __future__ import annotations

from dataclasses import dataclass, replace
from fractions import Fraction

from vmaftune.cell import Window
from vmaftune.media.probe import Facts
from vmaftune.media.windows import timecode


@dataclass(frozen=True, slots=True, kw_only=True)
class Film:
    """A film as one window, `whole`, and what its file is. Frames count from the window's first."""

    whole: Window
    facts: Facts

    @property
    def num_frames(self) -> int:
        """Frames of the film."""
        return self.whole.expected_frames

    @property
    def seconds(self) -> float:
        """Length of the film."""
        return self.num_frames / float(self.whole.frame_rate)

    @property
    def starts_at(self) -> Fraction:
        """When the first frame is shown, seconds after the file's own start; 0 where not known."""
        if not self.facts.shown:
            return Fraction(0)
        return max(Fraction(0), self.facts.shown[0] * self.facts.time_base - self.facts.start_s)

    def cut(self, start: int, num_frames: int, *, pad: int = 0) -> Window:
        """A window of the film, in its group: `film@00:12:30.000+48`, by time and frames.

        `pad` frames on either side, where the film has them, are encoded with it and not scored;
        such a window is called `...+48p12`.
        """
        whole = self.whole
        before, after = min(pad, start), min(pad, self.num_frames - start - num_frames)
        first = whole.start_frame + start * whole.every
        at = timecode(Fraction(start) / whole.frame_rate)
        return replace(
            whole,
            name=f"{whole.name}@{at}+{num_frames}" + (f"p{pad}" if pad else ""),
            start_frame=first,
            num_frames=num_frames,
            expected_frames=num_frames,
            pad_before=before,
            pad_after=after,
            seek=self.facts.seek(
                first - before * whole.every, (before + num_frames + after) * whole.every
            ),
        )

    def halved(self) -> Film:
        """The film at half its frames: the first of every two. Its windows have other names."""
        whole = self.whole
        half = replace(
            whole,
            name=f"{whole.name}-half",
            every=2,
            expected_frames=-(-whole.expected_frames // 2),
            fps=str(whole.frame_rate / 2),
        )
        return replace(self, whole=half)
