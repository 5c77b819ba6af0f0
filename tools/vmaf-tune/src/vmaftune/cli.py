"""The Typer application: commands in, exit codes out.

Exit codes: 0 done, 1 a bug of ours, 2 usage, 3 a tool, device or the disk, 4 the corpus cannot be
used, 5 the sweep ended with failed cells, 6 the gate said hold, 7 a target or
limit is not met, 130 interrupted.
"""

from __future__ import annotations

import errno
import sys
import traceback
from contextlib import suppress
from typing import Annotated, NoReturn

import typer
from vmaf_train.errors import DatasetError, DependencyError, ModelError, TrainError

from vmaftune import console, errors
from vmaftune.commands import clean, corpus, doctor, evaluate, predict, report, ship, status, train

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
UNFIT_PATH = (errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.EEXIST)

app = typer.Typer(
    name="vmaf-tune",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)
app.command("corpus")(corpus.corpus)
app.command("status")(status.status)
app.command("clean")(clean.clean)
app.command("train")(train.train)
app.command("eval")(evaluate.evaluate)
app.command("ship")(ship.ship)
app.command("predict")(predict.predict)
app.command("doctor")(doctor.doctor)
app.command("report")(report.report)


def _version(wanted: bool) -> None:
    if wanted:
        from vmaftune.media.ffmpeg import show

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
            help="Print every tool's version and leave.",
        ),
    ] = False,
) -> None:
    """Measure what quality an encoder setting gives, on your own content and hardware; learn and
    ship models of it.

    Example: vmaf-tune corpus sources/ --encoders x264,svtav1 --quality
    "x264=20:44:6;svtav1=20,35,50"
    """


def exit_code(failure: BaseException) -> int:
    """The exit code of an error: SPEC section 7."""
    return next((code for kind, code in EXIT_CODES if isinstance(failure, kind)), 1)


def main() -> None:
    """Run the command line; every expected error ends as one sentence on stderr and its
    exit code.
    """
    try:
        app(standalone_mode=True)
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
