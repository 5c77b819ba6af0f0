"""The command line in this process: a new one would cost a second of imports for every call."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Mapping
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from vmaftune.cli import main


@dataclass
class Done:
    """How a command ended."""

    returncode: int
    stdout: str
    stderr: str
    args: list[str] = field(default_factory=list)


def typed(
    *args: str | os.PathLike[str],
    cwd: Path,
    stdin: str = "",
    env: Mapping[str, str] | None = None,
) -> Done:
    """What `vmaf-tune ARGS` prints in the folder `cwd`, and its exit code."""
    words = [os.fspath(word) for word in args]
    out, err, code = io.StringIO(), io.StringIO(), 0
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(out), redirect_stderr(err):
        patch.chdir(cwd)
        patch.setattr(sys, "argv", ["vmaf-tune", *words])
        patch.setattr(sys, "stdin", io.StringIO(stdin))
        for name, value in (env or {}).items():
            patch.setenv(name, value)
        try:
            main()
        except SystemExit as left:
            code = int(left.code or 0)
    return Done(code, out.getvalue(), err.getvalue(), words)
