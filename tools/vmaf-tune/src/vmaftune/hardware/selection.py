"""Which encoders really work here: a tiny trial encode per encoder, pixel format and GPU, and what
a selection comes to.

`-encoders` lists what cannot open, so only a trial tells. A success is remembered under the user's
cache folder for the ffmpeg binary, the drivers and the arguments that gave it; a failure is tried
again each time.
"""

from __future__ import annotations

import json
import os
import platform
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from vmaftune.cell import Tools, digest
from vmaftune.encoders import ENCODERS, Encoder, Selection
from vmaftune.errors import ToolError, UsageError
from vmaftune.hardware import diagnosis
from vmaftune.hardware.diagnosis import Diagnosis, Reason
from vmaftune.hardware.gpus import Device, Gpus, look, session_slots, visible
from vmaftune.media.encode import rate_control_that_ran
from vmaftune.media.ffmpeg import Ffmpeg, usable_cores
from vmaftune.media.remembered import cache_folder

# Above the smallest size of every encoder in the table (AMF's HEVC and AV1 start at 384x128 or
# below).
SIZE, NUM_FRAMES = "640x360", 3
TIMEOUT_S = 120.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """One trial encode: an encoder at a pixel format on a device (None: ffmpeg's own choice, or the
    CPU).

    `why` and `what_to_do` are sentences, None for one that worked; `line` is what ffmpeg said.
    `rate_control` is the mode that ran where the log tells (QSV).
    """

    encoder: str
    pix_fmt: str
    device: Device | None
    usable: bool
    reason: Reason | None = None
    why: str | None = None
    what_to_do: str | None = None
    line: str | None = None
    rate_control: str | None = None


def trial_argv(encoder: Encoder, pix_fmt: str, device: Device | None) -> list[str]:
    """The command of a trial: three frames at the default preset and a middle quality value, to
    nowhere.

    `-v verbose`, because NVENC names a codec or depth that the GPU does not have only there.
    """
    address = device.address if device else None
    quality = encoder.default_quality[len(encoder.default_quality) // 2]
    upload = f",{encoder.upload_filter}" if encoder.upload_filter else ""
    return [
        "-nostdin",
        "-hide_banner",
        "-nostats",
        "-v",
        "verbose",
        *encoder.input_arguments(address),
        "-f",
        "lavfi",
        "-i",
        f"testsrc2=size={SIZE}:rate=25",
        "-frames:v",
        str(NUM_FRAMES),
        "-vf",
        f"format={pix_fmt}{upload}",
        *encoder.arguments(encoder.default_preset, quality, 1),
        *encoder.gpu_arguments(address),
        "-f",
        "null",
        "-",
    ]


def try_encoder(
    ffmpeg: Ffmpeg, encoder: Encoder, pix_fmt: str, device: Device | None, gpus: Gpus
) -> Trial:
    """Run one trial. It worked when all frames came out and no option was ignored, whatever the
    exit code says.
    """
    argv = trial_argv(encoder, pix_fmt, device)
    what = f"a trial encode with {encoder.name}"
    done = ffmpeg.run(argv, timeout_s=TIMEOUT_S, what=what)
    muxed = re.search(r"; (\d+) packets muxed", done.stderr)
    packets = int(muxed[1]) if muxed else 0
    ignored = "has not been used for any stream" in done.stderr
    if done.returncode == 0 and packets == NUM_FRAMES and not ignored and not done.timed_out:
        mode = rate_control_that_ran(done.stderr)
        return Trial(
            encoder=encoder.name, pix_fmt=pix_fmt, device=device, usable=True, rate_control=mode
        )
    found = diagnosis.classify(done.stderr, timed_out=done.timed_out)
    if done.returncode == 0 and not ignored:
        found = Diagnosis(reason=Reason.OTHER, line=f"{packets} of {NUM_FRAMES} frames came out")
    why, what_to_do = diagnosis.explain(encoder, found, gpus, device.name if device else None)
    return Trial(
        encoder=encoder.name,
        pix_fmt=pix_fmt,
        device=device,
        usable=False,
        reason=found.reason,
        why=why,
        what_to_do=what_to_do,
        line=found.line,
    )


_Wanted = tuple[Encoder, str, Device | None]
"""A trial to run: an encoder at a pixel format on a device."""


class Cache:
    """Trials that worked, for one ffmpeg binary, one set of drivers and one set of GPUs.

    A cache that cannot be used is no error.
    """

    def __init__(self, tools: Tools, gpus: Gpus, folder: Path | None = None) -> None:
        # Another GPU at the same address is another matter.
        chips = [[g.index, g.uuid] for g in gpus.nvidia.gpus] + [
            [n.path, n.vendor, n.model] for n in gpus.nodes
        ]
        seen = digest([chips, gpus.cuda_visible])[:8]
        drivers = f"{gpus.nvidia.driver or 'none'}-{platform.release()}-{seen}"
        name = "".join(c if c.isalnum() or c in ".-" else "_" for c in drivers)
        self._path = (folder or cache_folder()) / f"trials-{tools.ffmpeg_sha256[:16]}-{name}.json"
        self._worked: dict[str, str | None] = {}
        with suppress(OSError, ValueError):
            known = json.loads(self._path.read_text(encoding="utf-8"))
            self._worked = {str(k): v for k, v in known.items() if v is None or isinstance(v, str)}

    @staticmethod
    def _key(encoder: Encoder, pix_fmt: str, device: Device | None) -> str:
        return " ".join(["ffmpeg", *trial_argv(encoder, pix_fmt, device)])

    def get(self, encoder: Encoder, pix_fmt: str, device: Device | None) -> Trial | None:
        """The trial that worked, or None when it has to be run."""
        key = self._key(encoder, pix_fmt, device)
        if key not in self._worked:
            return None
        mode = self._worked[key]
        return Trial(
            encoder=encoder.name, pix_fmt=pix_fmt, device=device, usable=True, rate_control=mode
        )

    def keep(self, trials: Iterable[Trial]) -> None:
        """Remember the ones that worked."""
        new = {
            self._key(ENCODERS[t.encoder], t.pix_fmt, t.device): t.rate_control
            for t in trials
            if t.usable
        }
        if new.keys() <= self._worked.keys():
            return
        self._worked |= new
        beside = self._path.with_suffix(f".{os.getpid()}.tmp")
        with suppress(OSError):
            self._path.parent.mkdir(parents=True, exist_ok=True)
            beside.write_text(json.dumps(self._worked, indent=1), encoding="utf-8")
            os.replace(beside, self._path)


def prove(
    encoders: Sequence[Encoder],
    ffmpeg: Ffmpeg,
    *,
    pix_fmts: Sequence[str] | None = None,
    gpus: Gpus | None = None,
    wanted_gpus: Sequence[str] = (),
    cache: Cache | None = None,
) -> tuple[Trial, ...]:
    """Try encoders on every device they may use, at the formats that sources of `pix_fmts` need
    (None: all they take).

    Devices are tried side by side, the trials of one device after each other: a consumer GPU
    refuses sessions beyond a few. Raises UsageError for a GPU that does not exist or is for none of
    the encoders, Interrupted when the runner was stopped.
    """
    gpus = gpus or look()
    _check_wanted(encoders, gpus, wanted_gpus)
    cache = cache or Cache(ffmpeg.identity, gpus)
    lanes: dict[str, list[_Wanted]] = {}
    for row in encoders:
        for device in gpus.devices(row.kind, wanted_gpus) if row.kind else (None,):
            lane = lane_name(row.kind, device) if row.kind else row.name
            wanted = [(row, name, device) for name in _formats(row, pix_fmts)]
            lanes.setdefault(lane, []).extend(wanted)

    def work(jobs: list[_Wanted]) -> list[Trial]:
        return [cache.get(*job) or try_encoder(ffmpeg, *job, gpus) for job in jobs]

    with ThreadPoolExecutor(max_workers=usable_cores() + 1) as pool:
        trials = [trial for lane in pool.map(work, lanes.values()) for trial in lane]
    cache.keep(trials)
    order = {row.name: i for i, row in enumerate(encoders)}
    return tuple(sorted(trials, key=lambda t: order[t.encoder]))


def _check_wanted(encoders: Sequence[Encoder], gpus: Gpus, wanted_gpus: Sequence[str]) -> None:
    """Raises UsageError for a GPU that is for none of the encoders."""
    for word in wanted_gpus:
        takers = gpus.kinds(word)
        if not any(row.kind in takers for row in encoders):
            raise UsageError(
                f"--gpu {word} is for {' and '.join(takers)}, and no such encoder was asked for;"
                " leave it out"
            )


def _formats(row: Encoder, pix_fmts: Sequence[str] | None) -> tuple[str, ...]:
    """The formats to try an encoder at: those that sources of `pix_fmts` need, or all."""
    if pix_fmts is None:
        return row.pix_fmts
    return tuple(dict.fromkeys(row.pix_fmt_for(name) for name in pix_fmts))


@dataclass(frozen=True, slots=True, kw_only=True)
class Resolved:
    """What a selection comes to on this machine.

    `devices` gives for each hardware encoder the devices where every needed format worked (None:
    ffmpeg's choice). `notices` are lines for the user, `skipped` the names of encoders that were
    asked for and are left out.
    """

    encoders: tuple[Encoder, ...]
    devices: Mapping[str, tuple[Device | None, ...]]
    notices: tuple[str, ...]
    skipped: tuple[str, ...]
    trials: tuple[Trial, ...]
    gpus: Gpus


def choose_encoders(
    selection: Selection,
    ffmpeg: Ffmpeg,
    *,
    skip_unusable: bool = False,
    pix_fmts: Sequence[str] = ("yuv420p",),
    wanted_gpus: Sequence[str] = (),
    gpus: Gpus | None = None,
    cache: Cache | None = None,
) -> Resolved:
    """Prove the encoders of a selection for sources of `pix_fmts`, and apply the rules of groups.

    A group loses members that cannot run, with a notice each; `auto` takes what works. Raises
    ToolError when a group or everything is lost, or an encoder named in full cannot run, unless
    `skip_unusable` leaves at least one.
    """
    gpus = gpus or look()
    cache = cache or Cache(ffmpeg.identity, gpus)
    trials = prove(
        selection.encoders,
        ffmpeg,
        pix_fmts=pix_fmts,
        gpus=gpus,
        wanted_gpus=wanted_gpus,
        cache=cache,
    )
    devices = {row.name: working_devices(row.name, trials) for row in selection.encoders}
    working, lost = split(selection, trials)
    if not acceptable(selection, working, lost, skip_unusable=skip_unusable):
        raise ToolError(screen(lost, working, trials, ffmpeg, gpus, cache))
    return Resolved(
        encoders=working,
        devices={row.name: devices[row.name] for row in working if row.kind},
        notices=tuple(_notices(selection, lost, trials)),
        skipped=tuple(row.name for row in lost),
        trials=trials,
        gpus=gpus,
    )


def _notices(
    selection: Selection, lost: Sequence[Encoder], trials: Sequence[Trial]
) -> Iterator[str]:
    """What was left out and why, and where the driver runs another rate control."""
    named = lost
    if selection.auto:
        named = [row for row in lost if row.name in selection.named]
        automatic = [row.name for row in lost if row not in named]
        if automatic:
            yield f"auto leaves out {', '.join(automatic)}; `vmaf-tune doctor` says why"
    for row in named:
        yield f"{row.name} is left out: {_why(row.name, trials)}"
    for trial in trials:
        asked = ENCODERS[trial.encoder].rate_control.upper()
        if trial.usable and trial.rate_control and trial.rate_control != asked:
            yield (
                f"{trial.encoder}: the driver runs {trial.rate_control} where {asked} was asked"
                " for; its quality values mean something else"
            )


def working_devices(encoder: str, trials: Sequence[Trial]) -> tuple[Device | None, ...]:
    """The devices on which every trial of `encoder` worked."""
    own = [t for t in trials if t.encoder == encoder]
    broken = {t.device for t in own if not t.usable}
    return tuple(dict.fromkeys(t.device for t in own if t.device not in broken))


def split(
    selection: Selection, trials: Sequence[Trial]
) -> tuple[tuple[Encoder, ...], tuple[Encoder, ...]]:
    """The encoders of a selection that can run on some device, and those that cannot."""
    able = {row.name for row in selection.encoders if working_devices(row.name, trials)}
    return (
        tuple(row for row in selection.encoders if row.name in able),
        tuple(row for row in selection.encoders if row.name not in able),
    )


def acceptable(
    selection: Selection,
    working: Sequence[Encoder],
    lost: Sequence[Encoder],
    *,
    skip_unusable: bool,
) -> bool:
    """Whether a selection may go on without `lost`: the rules that `choose_encoders` tells."""
    if not working:
        return False
    if skip_unusable:
        return True
    if any(row.name in selection.named for row in lost):
        return False
    alive = {row.group for row in working}
    return selection.auto or all(row.group in alive for row in lost)


def _why(encoder: str, trials: Sequence[Trial]) -> str:
    return next((t.why for t in trials if t.encoder == encoder and t.why), "it cannot run here")


def screen(
    lost: Sequence[Encoder],
    working: Sequence[Encoder],
    trials: Sequence[Trial],
    ffmpeg: Ffmpeg,
    gpus: Gpus,
    cache: Cache,
) -> str:
    """The one screen of a refusal: which encoders cannot run, why, what to do about each, and what
    could run instead.
    """
    width = max(len(row.name) for row in lost)
    lines = [f"{len(lost)} of the encoders asked for cannot run on this machine:"]
    lines += [f"  {row.name:{width}}  {_why(row.name, trials)}" for row in lost]
    advice: dict[str, str] = {}
    for trial in (t for t in trials if t.what_to_do):
        advice.setdefault(trial.what_to_do or "", ENCODERS[trial.encoder].kind or trial.encoder)
    lines += ["what to do:", *(f"  {kind}: {text}" for text, kind in advice.items())]
    if working:
        names = ", ".join(row.name for row in working)
        lines.append(f"can run: {names}; go on without the others with --skip-unusable")
        return "\n".join(lines)
    rest = [row for row in ENCODERS.values() if row.group == "software" and row not in lost]
    able = [
        t.encoder
        for t in prove(rest, ffmpeg, pix_fmts=("yuv420p",), gpus=gpus, cache=cache)
        if t.usable
    ]
    if able:
        lines.append(f"can run: {', '.join(able)}; take all of them with --encoders software")
    return "\n".join(lines)


def slots(resolved: Resolved, cores: int | None = None) -> dict[str, int]:
    """Encodes to run at once on each device, by `lane_name`: NVENC sessions per GPU, one per other
    device.
    """
    cores = cores or usable_cores()
    found = resolved.gpus
    sessions = session_slots(found.nvidia, visible(found.nvidia.gpus, found.cuda_visible), cores)
    lanes: dict[str, int] = {}
    for name, devices in resolved.devices.items():
        kind = ENCODERS[name].kind or ""
        for device in devices:
            count = sessions.get(int(device.address), 1) if kind == "nvenc" and device else 1
            lanes[lane_name(kind, device)] = count
    return lanes


def lane_name(kind: str, device: Device | None) -> str:
    """The executor's name of a device's lane."""
    return f"{kind}:{device.address}" if device else kind
