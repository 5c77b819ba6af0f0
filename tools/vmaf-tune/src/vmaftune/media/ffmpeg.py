"""Which tools are used: the ffmpeg binary, its libvmaf, and the versions of everything that shapes
a result.
"""

from __future__ import annotations

import json
import os
import platform
import re
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from vmaftune.cell import Tools
from vmaftune.errors import ToolError
from vmaftune.media.content import content_sha256
from vmaftune.media.model_file import NAME
from vmaftune.media.process import STDERR_LIMIT_BYTES, Finished, Runner

ENV_FFMPEG = "VMAF_TUNE_FFMPEG"
_PACKAGES = (
    "vmaf-tune",
    "imageio-ffmpeg",
    "av",
    "numpy",
    "pandas",
    "pyarrow",
    "scipy",
    "joblib",
    "torch",
    "onnx",
    "onnxruntime-gpu",
    "onnxruntime",
    "plotly",
    "nvidia-ml-py",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Ffmpeg:
    """One ffmpeg as everything uses it: what it is, and the runner that starts it.

    It can be pickled: the runner of another process is a fresh one with the same limit.
    """

    identity: Tools
    runner: Runner

    @property
    def path(self) -> str:
        """Absolute path of the binary."""
        return self.identity.ffmpeg

    def run(
        self,
        argv: Sequence[str],
        *,
        timeout_s: float,
        cwd: Path | None = None,
        what: str | None = None,
        keep_bytes: int = STDERR_LIMIT_BYTES,
    ) -> Finished:
        """Run it with `argv`, the arguments after the program's name; see Runner.run."""
        return self.runner.run(
            [self.path, *argv], timeout_s=timeout_s, cwd=cwd, what=what, keep_bytes=keep_bytes
        )


def find_ffmpeg(wanted: str | None = None) -> str:
    """Absolute path of the ffmpeg to use: `wanted`, else VMAF_TUNE_FFMPEG, else the one in the
    imageio-ffmpeg wheel.

    Raises ToolError when it does not exist or cannot be executed.
    """
    named = wanted or os.environ.get(ENV_FFMPEG)
    if named:
        path = shutil.which(named)
        if path is None:
            raise ToolError(
                f"ffmpeg {named!r} is not an executable file; give another with --ffmpeg or"
                f" {ENV_FFMPEG}"
            )
        return os.path.abspath(path)
    import imageio_ffmpeg

    try:
        return os.path.abspath(str(imageio_ffmpeg.get_ffmpeg_exe()))
    except RuntimeError as failure:
        raise ToolError(f"no ffmpeg was found; name one with --ffmpeg or {ENV_FFMPEG}") from failure


def identify(
    runner: Runner, ffmpeg: str, model: str = "vmaf_v0.6.1", model_file: Path | None = None
) -> Ffmpeg:
    """The ffmpeg at the path `ffmpeg`, once its libvmaf has scored with `model`, read from
    `model_file` where it is not built in.

    Raises ToolError when it is not an ffmpeg, has no libvmaf, or does not hold the model.
    """
    shown = show_version(runner, ffmpeg)
    libvmaf, why = try_model(runner, ffmpeg, model, model_file)
    if libvmaf is None and model_file is not None:
        last = (why.splitlines() or ["it said nothing"])[-1]
        raise ToolError(f"the libvmaf of {ffmpeg} cannot score with {model_file} ({last})")
    if libvmaf is None and "could not load libvmaf model" in why:
        raise ToolError(
            f"the libvmaf of {ffmpeg} has no model {model!r}; `vmaf-tune doctor` lists the models"
            " that load"
        )
    if libvmaf is None:
        raise ToolError(
            f"{ffmpeg} cannot score with libvmaf model {model}"
            f" ({(why.splitlines() or ['it said nothing'])[-1]}); `vmaf-tune doctor` lists the"
            f" models that load, and leaving out --ffmpeg and {ENV_FFMPEG} takes the embedded"
            " ffmpeg"
        )
    found = Tools(
        ffmpeg=ffmpeg,
        ffmpeg_version=shown,
        ffmpeg_sha256=content_sha256(ffmpeg, shown=False),
        libvmaf_version=libvmaf,
    )
    return Ffmpeg(identity=found, runner=runner)


def show_version(runner: Runner, ffmpeg: str) -> str:
    """The version that `ffmpeg -version` shows. Raises ToolError when it is not an ffmpeg."""
    shown = runner.run(
        [ffmpeg, "-hide_banner", "-version"], timeout_s=60, what=f"the version of {ffmpeg}"
    )
    line = shown.stdout.decode("utf-8", "replace").splitlines()[:1]
    if shown.returncode or not line or not line[0].startswith("ffmpeg version"):
        raise ToolError(f"{ffmpeg} is not an ffmpeg: `-version` {shown.ended}")
    return line[0].split(" Copyright")[0].removeprefix("ffmpeg version ")


def try_model(
    runner: Runner, ffmpeg: str, model: str, model_file: Path | None = None
) -> tuple[str | None, str]:
    """Score three frames with a libvmaf model, built in or from a file: libvmaf's version, None
    without a score; and the end of the log.

    The exit code alone says 0 when libvmaf gave up. 640x360, because CAMBI, part of the newer
    models, takes none below 216x176.
    """
    graph = "testsrc2=size=640x360:rate=25:duration=0.12,split[a][b];[a][b]libvmaf="
    named = f"version={model}" if model_file is None else f"path={NAME}"
    argv = [
        ffmpeg,
        "-nostdin",
        "-hide_banner",
        "-v",
        "error",
        "-f",
        "lavfi",
        "-i",
        f"{graph}model={named}:log_fmt=json:log_path=vmaf.json",
        "-f",
        "null",
        "-",
    ]
    with tempfile.TemporaryDirectory(prefix="vmaf-tune-") as folder:
        what = f"a trial of libvmaf with model {model}"
        if model_file is not None:
            shutil.copyfile(model_file, Path(folder, NAME))
        trial = runner.run(argv, timeout_s=120, cwd=Path(folder), what=what)
        log = Path(folder, "vmaf.json")
        if trial.timed_out:
            return None, f"the trial was stopped after {trial.wall_s:.0f} s"
        if trial.returncode or not log.exists():
            return None, trial.tail
        return _version_of(log.read_bytes()), trial.tail


def _version_of(log: bytes) -> str | None:
    """libvmaf's version from the log of a trial; None for a log without a score, or of another
    shape.
    """
    try:
        found = json.loads(log)
        score, version = found["pooled_metrics"]["vmaf"]["mean"], found["version"]
    except (ValueError, KeyError, TypeError):  # bytes that are not UTF-8 are a ValueError too
        return None
    return version if isinstance(score, float) and isinstance(version, str) else None


def packages() -> dict[str, str | None]:
    """Installed versions of the Python packages that shape a result; None for one that
    is absent.
    """
    found: dict[str, str | None] = {}
    for name in _PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = None
    return found


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """Facts of a computer that explain timings. `cores` are those that this process may use;
    memory None is unknown.
    """

    system: str
    python: str
    cpu: str
    cores: int
    memory_bytes: int | None


def machine() -> Machine:
    """This computer."""
    try:
        memory: int | None = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        memory = None
    return Machine(
        system=platform.platform(),
        python=platform.python_version(),
        cpu=_cpu_name(),
        cores=usable_cores(),
        memory_bytes=memory,
    )


def usable_cores() -> int:
    """Cores this process may use, at least 1: affinity and the limits of a container respected."""
    import joblib

    return int(joblib.cpu_count())


def _cpu_name() -> str:
    try:
        match = re.search(r"^model name\s*:\s*(.+)$", Path("/proc/cpuinfo").read_text(), re.M)
    except OSError:
        match = None
    return match.group(1) if match else platform.processor() or platform.machine()
