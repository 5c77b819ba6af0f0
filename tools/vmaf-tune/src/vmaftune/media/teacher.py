"""Where the teacher's own function is read: a model file that was named, else the ffmpeg in use."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from vmaf_train import teacher
from vmaf_train.errors import ModelError
from vmaf_train.teacher import Teacher

from vmaftune.errors import ToolError
from vmaftune.media.content import content_sha256
from vmaftune.media.ffmpeg import find_ffmpeg


def load_teacher(model_file: Path | None) -> Teacher:
    """The teacher in `model_file`, else in the ffmpeg that sweeps use here.

    Raises ModelError where it is not, ToolError without an ffmpeg.
    """
    if model_file:
        return teacher.read(model_file)
    return teacher.find(Path(find_ffmpeg()), partial(content_sha256, shown=False))


def load_or_reason(model_file: Path | None) -> tuple[Teacher | None, str]:
    """The same, for whoever can do without it: None and the reason where it is not found.

    A file that was named must be right: raises ModelError when it is not.
    """
    if model_file is not None:
        return teacher.read(model_file), ""
    try:
        return load_teacher(None), ""
    except (ModelError, ToolError) as failure:
        return None, f"the baseline of the teacher's own function is left out: {failure}"
