"""Why a cell has no number."""

from __future__ import annotations

from vmaf_train.corpus.rows import FailureKind

from vmaftune.media.process import Finished


class CellFailure(Exception):
    """A cell that gave no trustworthy number: `kind` names the class, the text is the sentence."""

    def __init__(self, kind: FailureKind, message: str, finished: Finished | None = None) -> None:
        super().__init__(message)
        self.kind = kind
        self.exit_code = finished.returncode if finished else None
        self.stderr_tail = finished.tail if finished else ""

    def __reduce__(self) -> tuple[object, ...]:
        state = {"exit_code": self.exit_code, "stderr_tail": self.stderr_tail}
        return CellFailure, (self.kind, str(self)), state
