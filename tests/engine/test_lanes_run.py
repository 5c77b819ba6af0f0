"""A sweep over hardware lanes, with an ffmpeg that encodes with x264 where NVENC was asked for and
allows one session per GPU.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from forged import latest_rows
from vmaftune.encoders import select
from vmaftune.engine.options import Options
from vmaftune.engine.study import Study
from vmaftune.hardware.gpus import Gpu, Gpus, Nvidia
from vmaftune.hardware.selection import Cache, choose_encoders, slots
from vmaftune.media.ffmpeg import Ffmpeg
from vmaftune.questions import grid
from vmaftune.request.cells import Plan

# A session is a lock that the encoding process holds until it ends; the encode is slow enough for
# two to meet.
PRETEND = """
import fcntl
if 'h264_nvenc' in argv:
    gpu = argv[argv.index('-gpu') + 1]
    with open(LOG, 'a') as log:
        session = os.open(LOG + gpu, os.O_RDWR | os.O_CREAT)
        os.set_inheritable(session, True)
        try:
            fcntl.flock(session, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            log.write('refused\\n')
            log.close()
            sys.stderr.write('[h264_nvenc @ 0x1] OpenEncodeSessionEx failed: out of memory (10): (no details)\\n')
            sys.exit(1)
        log.write('gpu ' + gpu + '\\n')
    time.sleep(0.3)
    begin, end = argv.index('-c:v'), argv.index('-gpu') + 2
    argv[begin:end] = ['-c:v', 'libx264', '-preset', 'ultrafast', '-crf', argv[argv.index('-cq') + 1]]
"""  # noqa: E501


def two_gpus() -> Gpus:
    gpus = tuple(
        Gpu(
            index=i,
            uuid=f"GPU-{i}",
            name=f"GeForce {i}",
            memory_bytes=None,
            sessions=0,
            encoder_percent=0,
            gpu_percent=0,
        )
        for i in range(2)
    )
    return Gpus(nvidia=Nvidia(driver="570.1", gpus=gpus), nodes=(), platform="linux")


def test_cells_go_to_both_gpus_and_a_refused_session_is_no_failed_cell(
    clip: Callable[..., Path],
    planned: Callable[..., Plan],
    wrapper: Callable[..., str],
    real: Ffmpeg,
    tmp_path: Path,
) -> None:
    log, folder = tmp_path / "sessions", tmp_path / "run"
    stand_in = wrapper(f"LOG = {str(log)!r}\n{PRETEND}")
    pretending = replace(real, identity=replace(real.identity, ffmpeg=stand_in))
    here = two_gpus()
    hardware = choose_encoders(
        select(["h264_nvenc"]),
        pretending,
        gpus=here,
        cache=Cache(pretending.identity, here, tmp_path / "cache"),
    )
    assert [d and d.name for d in hardware.devices["h264_nvenc"]] == ["GeForce 0", "GeForce 1"]
    assert slots(hardware, cores=8) == {"nvenc:0": 4, "nvenc:1": 4}
    log.unlink()
    plan = planned(
        clip("lanes.mkv", frames=6), encoders="h264_nvenc", presets="p4", quality="20:41:3"
    )
    folder.mkdir()
    with Study.open(folder, plan, pretending, Options(jobs=2), hardware=hardware) as study:
        list(grid.run(plan, study))
    rows = list(latest_rows(folder).values())
    assert [(r["status"], r["error"]) for r in rows] == [("ok", None)] * 8
    assert {r["device"] for r in rows} == {"GeForce 0 570.1", "GeForce 1 570.1"}
    assert {r["scorer"] for r in rows} == {"cpu"}
    assert not any("-gpu" in r["argv"] for r in rows), (
        "a row and its key do not depend on the GPU that was free"
    )
    said = log.read_text().splitlines()
    assert said.count("gpu 0") + said.count("gpu 1") == 8 and "refused" in said


def test_the_command_to_paste_names_the_gpu_that_failed(
    clip: Callable[..., Path],
    planned: Callable[..., Plan],
    wrapper: Callable[..., str],
    real: Ffmpeg,
    tmp_path: Path,
) -> None:
    fails = f"LOG = {str(tmp_path / 'sessions')!r}\nif ENCODE: sys.exit(3)\n{PRETEND}"
    here = two_gpus()
    pretending = replace(real, identity=replace(real.identity, ffmpeg=wrapper(fails)))
    one = replace(here, cuda_visible="1")
    hardware = choose_encoders(
        select(["h264_nvenc"]),
        pretending,
        gpus=one,
        wanted_gpus=["1"],
        cache=Cache(pretending.identity, one, tmp_path / "cache"),
    )
    plan = planned(clip("lanes.mkv", frames=6), encoders="h264_nvenc", presets="p4", quality="20")
    with Study.open(
        tmp_path / "run", plan, pretending, Options(jobs=1), hardware=hardware
    ) as study:
        list(grid.run(plan, study))
    (row,) = latest_rows(tmp_path / "run").values()
    assert (row["status"], row["device"]) == ("failed", "GeForce 1 570.1")
    assert "-gpu 0 " in row["error"]["command"] and "-gpu" not in row["argv"]
