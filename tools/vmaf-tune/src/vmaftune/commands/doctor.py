"""`vmaf-tune doctor`: which encoders really work on this machine, why the others do not, and what
to do about it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import typer

from vmaftune import console
from vmaftune.cell import TEACHER
from vmaftune.commands.confirm import run
from vmaftune.commands.options import FfmpegPath, Insecure, JsonDocument
from vmaftune.costs import counted
from vmaftune.encoders import ENCODERS, select
from vmaftune.engine.cluster import survey
from vmaftune.engine.connection import connect
from vmaftune.engine.members import Member, gpu_names
from vmaftune.engine.target import check_target
from vmaftune.errors import ToolError
from vmaftune.hardware.checkup import Checkup, Libvmaf, Onnxruntime, inspect, report
from vmaftune.hardware.gpus import Gpu, Gpus, look
from vmaftune.hardware.selection import Cache, Trial, acceptable, prove, split
from vmaftune.media.ffmpeg import Ffmpeg, find_ffmpeg
from vmaftune.media.process import Runner
from vmaftune.request.values import refuse_empty, words

GIB = 2**30


def doctor(
    encoders: Annotated[
        str | None,
        typer.Option(
            help=(
                "What must run: names, aliases or groups. Exit code 3 when it cannot. Default: ask"
                " for none."
            )
        ),
    ] = None,
    gpu: Annotated[
        str | None,
        typer.Option(help="GPUs to try: 0,1 as nvidia-smi counts, /dev/dri/renderD129, d3d11:0."),
    ] = None,
    confirm: Annotated[
        bool,
        typer.Option(
            "--confirm",
            help=(
                "Run a short sweep per usable hardware encoder, or per --encoders, with all checks."
            ),
        ),
    ] = False,
    ffmpeg: FfmpegPath = None,
    cluster: Annotated[
        str | None,
        typer.Option(
            help="Show the workers of a Dask cluster: tls://HOST:8786, or a scheduler's file.",
            metavar="ADDRESS",
        ),
    ] = None,
    insecure: Insecure = False,
    as_json: JsonDocument = False,
) -> None:
    """Show what works on this machine, and why the rest does not. Encoders are tried by a short
    encode each; libvmaf's models, GPUs, torch and onnxruntime are asked.

    Example: vmaf-tune doctor --encoders nvenc,x264
    """

    runner = Runner(tell=console.say)
    refuse_empty({"encoders": encoders, "gpu": gpu})
    asked = select(encoders.split(",")) if encoders else None
    wanted = words(gpu)
    used, problem = inspect(runner, find_ffmpeg(ffmpeg))
    if cluster is not None:
        if problem:
            raise ToolError(problem)
        show_cluster(used, cluster, insecure=insecure, as_json=as_json)
        return
    here = look()
    if confirm:
        if problem:
            raise ToolError(problem)

        run(used, here, asked, wanted, as_json=as_json)
        return
    cache = Cache(used.identity, here)
    rows = asked.encoders if asked else tuple(ENCODERS.values())
    trials = prove(rows, used, gpus=here, wanted_gpus=wanted, cache=cache)
    found = report(used, problem, trials, here)
    if as_json:
        console.json_document(found.to_json())
    else:
        show(found)
    if problem and asked:
        raise ToolError(problem)
    if problem and not as_json:
        console.warn(problem)
    if asked:
        # A format that only deeper sources need is shown above, and is no reason to refuse.
        common = [t for t in trials if t.pix_fmt == ENCODERS[t.encoder].pix_fmt_for("yuv420p")]
        working, lost = split(asked, common)
        if not acceptable(asked, working, lost, skip_unusable=False):
            raise ToolError(
                f"{', '.join(row.name for row in lost)} cannot run on this machine; the table"
                " says why"
            )
    if not as_json and any(t.usable and ENCODERS[t.encoder].kind for t in trials):
        console.next_command("vmaf-tune doctor --confirm")


def show(found: Checkup) -> None:
    """The report as tables on stdout, and what needs attention as notes."""
    console.table(
        "encoders",
        ("encoder", "usable", "formats", "why not", "what to do"),
        encoder_lines(found.trials),
        left=5,
        styles={"yes": "green", "no": "red"},
    )
    console.out("")
    console.table("machine", ("what", "found"), facts(found), left=2)
    if found.libvmaf and found.libvmaf.warning:
        console.warn(found.libvmaf.warning)
    missing = "{} does not work here; {}: pip install 'vmaf-tune[{}]'"
    if found.torch is None:
        console.warn(missing.format("torch", "training needs it", "train"))
    if found.onnxruntime is None:
        console.warn(missing.format("onnxruntime", "models answer through it", "predict"))


def encoder_lines(trials: Sequence[Trial]) -> list[tuple[object, ...]]:
    """One line per encoder, GPU and outcome; pixel formats that fared alike share it."""
    lines: dict[tuple[str, bool, str | None, str | None], list[str]] = {}
    for trial in trials:
        name = trial.encoder
        if trial.device and trial.usable:
            name = f"{trial.encoder} on {trial.device.name}"
        outcome = name, trial.usable, trial.why, trial.what_to_do
        lines.setdefault(outcome, []).append(trial.pix_fmt)
    shown: list[tuple[object, ...]] = []
    last = None
    for (name, works, why, what), formats in lines.items():
        again = "as above" if what and what == last else what or ""
        shown.append((name, works, ", ".join(dict.fromkeys(formats)), why or "", again))
        last = what
    return shown


def facts(found: Checkup) -> list[tuple[str, str]]:
    """What is not an encoder, a line each."""
    torch, onnx, here = found.torch, found.onnxruntime, found.machine
    memory = f"{here.memory_bytes / GIB:.1f} GiB" if here.memory_bytes else "unknown"
    computes = f"{torch.version} on {', '.join(torch.devices)}" if torch else "not working"
    return [
        ("ffmpeg", f"{found.ffmpeg.identity.ffmpeg_version} at {found.ffmpeg.path}"),
        *libvmaf_lines(found.libvmaf),
        *gpu_lines(found.gpus),
        ("torch", computes),
        ("onnxruntime", onnxruntime_line(onnx) if onnx else "not working"),
        ("system", f"{here.system}, Python {here.python}"),
        ("processor", f"{here.cpu}, {here.cores} usable cores"),
        ("memory", memory),
        (
            "disk here",
            f"{found.disk_free_bytes / GIB:.1f} GiB free of {found.disk_bytes / GIB:.1f}",
        ),
    ]


def libvmaf_lines(vmaf: Libvmaf | None) -> list[tuple[str, str]]:
    """What libvmaf can do."""
    if vmaf is None:
        return [("libvmaf", "missing, or it does not score")]
    cuda = "in this ffmpeg" if vmaf.libvmaf_cuda else "not in this ffmpeg; scoring runs on the CPU"
    models = " ".join(vmaf.models)
    return [("libvmaf", vmaf.version), ("models that load", models), ("libvmaf_cuda", cuda)]


def gpu_lines(gpus: Gpus) -> list[tuple[str, str]]:
    """The driver, and a line for every GPU."""
    driver = gpus.nvidia.driver or f"none ({gpus.nvidia.problem})"
    lines = [("NVIDIA driver", driver)]
    lines += [(f"NVIDIA GPU {gpu.index}", gpu_line(gpu)) for gpu in gpus.nvidia.gpus]
    for node in gpus.nodes:
        no = "" if node.access else ", not accessible"
        lines.append((node.path, f"{node.vendor} ({node.driver}){no}"))
    return lines


def gpu_line(gpu: Gpu) -> str:
    """An NVIDIA GPU in words."""
    parts = [gpu.name]
    if not gpu.engine:
        parts.append("no NVENC engine")
    elif gpu.sessions is not None:
        parts.append(f"{gpu.sessions} encode sessions in use, encoder {gpu.encoder_percent}% busy")
    if gpu.gpu_percent is not None:
        parts.append(f"GPU {gpu.gpu_percent}% busy")
    return ", ".join(parts)


def onnxruntime_line(found: Onnxruntime) -> str:
    """Where onnxruntime really runs; a CUDA provider that is listed and did not come says so."""
    names = [provider.removesuffix("ExecutionProvider") for provider in found.providers]
    missed = "CUDAExecutionProvider" in found.listed and "CUDA" not in names
    more = " (CUDA is listed and does not load)" if missed else ""
    return f"{found.version} on {', '.join(names)}{more}"


def show_cluster(ffmpeg: Ffmpeg, address: str, *, insecure: bool, as_json: bool) -> None:
    """A line for every worker of a cluster: what it has, and why it would be left out.

    Raises ToolError when nobody answers, or none of them can be used.
    """
    target = check_target(address, None, insecure=insecure)
    assert target is not None
    connection = connect(target)
    try:
        members = survey(connection, ffmpeg, TEACHER)
    finally:
        connection.close()
    if as_json:
        console.json_document([worker_facts(member) for member in members])
    else:
        console.table(
            f"{counted(len(members), 'worker')} at {address}",
            ("worker", "host", "slots", "hardware", "GPU", "ffmpeg", "free GiB", "use"),
            [worker_line(member) for member in members],
            left=2,
        )
    if not any(member.facts and not member.problem for member in members):
        raise ToolError(f"no worker at {address} can be used; the lines above say why")


def worker_facts(member: Member) -> dict[str, object]:
    """A worker as `doctor --cluster --json` shows it."""
    facts = member.facts
    ffmpeg = facts.ffmpeg if facts else None
    return {
        "worker": member.name,
        "host": facts.host if facts else None,
        "slots": member.num_threads,
        "resources": dict(member.resources),
        "gpus": gpu_names(member),
        "vmaf_tune": facts.version if facts else None,
        "ffmpeg_version": ffmpeg.ffmpeg_version if ffmpeg else None,
        "ffmpeg_sha256": ffmpeg.ffmpeg_sha256 if ffmpeg else None,
        "libvmaf_version": ffmpeg.libvmaf_version if ffmpeg else None,
        "encoders": sorted(n for n, digest in facts.canary.items() if digest) if facts else [],
        "free_bytes": facts.free_bytes if facts else None,
        "usable": facts is not None and member.problem is None,
        "problem": member.problem or (None if facts else "it did not answer"),
    }


def worker_line(member: Member) -> tuple[object, ...]:
    """A worker as a line of the table."""
    facts = worker_facts(member)
    hardware = ", ".join(f"{name} {count:g}" for name, count in member.resources.items())
    free = member.facts.free_bytes / GIB if member.facts else None
    sha = facts["ffmpeg_sha256"]
    return (
        member.name,
        facts["host"],
        member.num_threads,
        hardware or None,
        ", ".join(gpu_names(member)) or None,
        str(sha)[:12] if sha else None,
        free,
        "yes" if facts["usable"] else facts["problem"],
    )
