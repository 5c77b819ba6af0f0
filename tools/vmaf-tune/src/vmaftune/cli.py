"""The Typer application: commands in, exit codes out.

Exit codes: 0 done, 1 a bug of ours, 2 usage, 3 a tool, device or the disk, 4 the corpus cannot be
used, 5 the sweep ended with failed cells, 6 the gate said hold, 7 a target or limit is not met,
130 interrupted.
"""

from __future__ import annotations

import errno
import sys
import traceback
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from importlib import import_module
from typing import Annotated, Any, NoReturn

import typer
from typer.core import TyperCommand, TyperGroup
from vmaf_train.errors import DatasetError, DependencyError, ModelError, TrainError

from vmaftune import console, errors

EXIT_CODES: tuple[tuple[type[BaseException], int], ...] = (
    (errors.UsageError, 2),
    (errors.ToolError, 3),
    (DependencyError, 3),
    (DatasetError, 4),
    (ModelError, 4),
    (errors.SweepFailed, 5),
    (errors.GateHold, 6),
    (errors.TargetMissed, 7),
    (errors.Interrupted, 130),
    (KeyboardInterrupt, 130),
)

UNFIT_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES, errno.EPERM)
UNFIT_PATH = (errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.EEXIST, errno.ENAMETOOLONG)


@dataclass(frozen=True, slots=True)
class Lazy:
    """A command as the table knows it: its name, `module:function`, and its help's first line."""

    name: str
    target: str
    help: str


# Every command by what a user wants to do. Only the module of the command that was asked for is
# imported; a test compares the helps with the docstrings.
COMMANDS: Mapping[str, Sequence[Lazy]] = {
    "Measure": (
        Lazy("corpus", "corpus:corpus", "Encode and score every cell of a grid, a row per cell"),
        Lazy("score", "score:score", "Score files against their reference with VMAF"),
    ),
    "Decide": (
        Lazy("find", "find:find", "Find the quality value that meets a VMAF target on a film"),
        Lazy("encode", "encode:encode", "Encode a film so that it meets a VMAF target"),
        Lazy("ladder", "ladder:ladder", "Make a bitrate ladder for a film, every rung measured"),
        Lazy("compare", "compare:compare", "Compare one encoder build or option set with another"),
    ),
    "Learn": (
        Lazy("train", "train:train", "Train a model on a corpus"),
        Lazy("eval", "evaluate:evaluate", "Show held-out figures of a training run"),
        Lazy("ship", "ship:ship", "Judge a training run, and promote its model if it passes"),
        Lazy("predict", "predict:predict", "Predict VMAF from the features of a scored encode"),
    ),
    "Look after": (
        Lazy("report", "report:report", "Show what sweeps found, as a page, tables or figures"),
        Lazy("status", "status:status", "Show how far a sweep is"),
        Lazy("merge", "merge:merge", "Join run folders by key"),
        Lazy("clean", "clean:clean", "Remove temporary folders that a killed sweep left"),
        Lazy(
            "doctor", "doctor:doctor", "Show what works on this machine, and why the rest does not"
        ),
    ),
}


def load(entry: Lazy) -> Callable[..., None]:
    """The function of a command; imports its module."""
    module, _, function = entry.target.partition(":")
    found: Callable[..., None] = getattr(import_module(f"vmaftune.commands.{module}"), function)
    return found


class LazyGroup(TyperGroup):
    """The commands of the table. Listing, suggesting and completing a name imports no command."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        self.entries = {entry.name: entry for part in COMMANDS.values() for entry in part}
        for name, entry in self.entries.items():
            self.add_command(TyperCommand(name, help=entry.help))

    def load(self, name: str) -> Any:
        """The command `name` with its options. Raises KeyError when there is none."""
        single = typer.Typer(
            rich_markup_mode=None, pretty_exceptions_enable=False, add_completion=False
        )
        single.command(name)(load(self.entries[name]))
        return typer.main.get_command(single)

    def resolve_command(self, ctx: Any, args: list[str]) -> tuple[str | None, Any, list[str]]:
        """The command that the first word names, with its options, and the words after it."""
        name, command, rest = super().resolve_command(ctx, args)
        return name, self.load(name) if name else command, rest

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """Names and helps, one section per part of the table."""
        width = max(map(len, self.entries))
        for part, entries in COMMANDS.items():
            with formatter.section(part):
                formatter.write_dl([(f"{entry.name:<{width}}", entry.help) for entry in entries])


app = typer.Typer(
    name="vmaf-tune",
    cls=LazyGroup,
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)


def _version(wanted: bool) -> None:
    if wanted:
        from vmaftune.commands.version import show

        show()
        raise typer.Exit


@app.callback()
def root(
    version: Annotated[
        bool,
        typer.Option(
            "--version",
            callback=_version,
            is_eager=True,
            help="Print every tool's version and exit.",
        ),
    ] = False,
) -> None:
    """Measure what quality an encoder setting gives, on your own content and hardware; learn and
    ship models of it.

    Example: vmaf-tune corpus sources/ --encoders x264,svtav1 --quality
    "x264=20:44:6;svtav1=20,35,50"
    """


def exit_code(failure: BaseException) -> int:
    """The exit code of an error; docs/cli.md lists them."""
    return next((code for kind, code in EXIT_CODES if isinstance(failure, kind)), 1)


def main() -> None:
    """Run the command line; every expected error ends as one sentence on stderr and its
    exit code.
    """
    console.open_closed_streams()
    try:
        app(prog_name="vmaf-tune")  # also for `python -m vmaftune`
    except (errors.VmafTuneError, TrainError, KeyboardInterrupt) as failure:
        with suppress(SystemExit):  # rich's word for a reader of stderr that has gone
            console.error(str(failure) or "interrupted")
        sys.exit(exit_code(failure))
    except SystemExit as leave:
        if not console.reader_left(leave):
            raise
        sys.exit(0)
    except OSError as failure:
        if failure.errno not in (*UNFIT_DISK, *UNFIT_PATH):
            _bug()
        way_out = (
            "make room or choose another place"
            if failure.errno in UNFIT_DISK
            else "name another file or folder"
        )
        console.error(
            f"{failure.filename or 'the disk'} cannot be used: {failure.strerror}; {way_out}"
        )
        sys.exit(exit_code(errors.ToolError()))
    except Exception:
        _bug()


def _bug() -> NoReturn:
    traceback.print_exc()
    console.error(
        "this is a bug of vmaf-tune; please report it with the lines above and `vmaf-tune"
        " --version`"
    )
    sys.exit(1)
