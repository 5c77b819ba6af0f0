"""`vmaf-tune doctor` as a user runs it, on whatever machine this is."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

import pytest
from typed import Done, typed
from vmaftune.asking import confirming
from vmaftune.cell import Tools
from vmaftune.errors import ToolError
from vmaftune.hardware import checkup
from vmaftune.hardware.checkup import MODELS, libvmaf_facts
from vmaftune.hardware.gpus import look
from vmaftune.media.ffmpeg import identify, try_model
from vmaftune.media.process import Runner

pytestmark = pytest.mark.real  # it tries encoders
HERE = look()
HARDWARE = bool(HERE.nvidia.driver or HERE.nodes)
no_hardware = pytest.mark.skipif(
    HARDWARE, reason="this machine has a GPU; the test is about one that has none"
)


@pytest.fixture(scope="module", autouse=True)
def asked_once() -> Iterator[None]:
    """torch and onnxruntime are asked once for all of these tests: each time costs seconds."""
    ask = checkup.ask_python

    @cache
    def answer(code: str, kind: type[object]) -> object:
        return ask(Runner(), code, kind)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(checkup, "ask_python", lambda _, code, kind: answer(code, kind))
        yield


def vmaf_tune(tmp: Path, *arguments: str) -> Done:
    return typed(*arguments, cwd=tmp, env={"COLUMNS": "160"})


def test_a_bare_doctor_tells_everything_and_exits_0(tmp_path: Path) -> None:
    done = vmaf_tune(tmp_path, "doctor", "--json")
    assert done.returncode == 0 and "error" not in done.stderr
    found = json.loads(done.stdout)
    by_name = {row["encoder"]: row for row in found["encoders"]}
    assert len(by_name) == 20
    assert by_name["libx264"]["usable"] and by_name["libvvenc"]["usable"]
    for row in found["encoders"]:
        assert row["usable"] or (
            row["why"] and row["what_to_do"] and row["reason"] and row["line"]
        ), row
        assert row["reason"] not in ("option error", "failed", "timeout"), row
    assert {"vmaf_v0.6.1", "vmaf_v0.6.1neg", "vmaf_4k_v0.6.1", "vmaf_float_v0.6.1"} <= set(
        found["libvmaf"]["models"]
    )
    assert found["libvmaf"]["libvmaf_cuda"] in (True, False)
    assert "CPUExecutionProvider" in found["runtimes"]["onnxruntime"]["providers"]
    assert found["runtimes"]["torch"]["devices"]
    assert (found["gpus"]["nvidia_driver"] is None) == (found["gpus"]["nvidia_problem"] is not None)
    assert found["machine"]["cores"] >= 1 and found["machine"]["disk_free_bytes"] > 0


@no_hardware
def test_what_was_asked_for_and_cannot_run_exits_3(tmp_path: Path) -> None:
    done = vmaf_tune(tmp_path, "doctor", "--encoders", "nvenc,x264")
    assert done.returncode == 3
    assert (
        done.stdout.count("no NVIDIA driver") == 3
        and "libx264" in done.stdout
        and "libx265" not in done.stdout
    )
    assert (
        done.stderr.strip()
        == "error: h264_nvenc, hevc_nvenc, av1_nvenc cannot run on this machine; the table says why"
    )


def test_what_was_asked_for_and_runs_exits_0(tmp_path: Path) -> None:
    assert vmaf_tune(tmp_path, "doctor", "--encoders", "x264,auto").returncode == 0
    assert vmaf_tune(tmp_path, "doctor", "--encoders", "x999").returncode == 2


def test_a_program_that_is_no_ffmpeg_is_described_and_not_a_crash(tmp_path: Path) -> None:
    done = vmaf_tune(tmp_path, "doctor", "--ffmpeg", "true")
    assert done.returncode == 0
    assert "is not an ffmpeg" in done.stderr
    assert "libx264" in done.stdout


def test_an_ffmpeg_that_cannot_score_is_unfit_for_whatever_was_asked_for(
    wrapper: Callable[..., str], tools: Tools, tmp_path: Path
) -> None:
    silent = wrapper("if SCORE: sys.exit(0)")  # ends with 0 and has scored nothing
    shown = []
    for arguments in (("--encoders", "x264"), ("--encoders", "x264", "--json"), ("--confirm",)):
        done = vmaf_tune(tmp_path, "doctor", "--ffmpeg", silent, *arguments)
        assert done.returncode == 3 and done.stderr.count("cannot score with libvmaf") == 1, (
            done.stderr
        )
        shown.append(done.stdout)
    assert tools.ffmpeg_version in shown[0] and "missing, or it does not score" in shown[0]
    found = json.loads(shown[1])
    assert (
        found["ffmpeg"]["version"] == tools.ffmpeg_version
        and "cannot score" in found["ffmpeg"]["problem"]
    )


def test_corpus_takes_every_model_that_doctor_lists_and_names_one_that_is_not_there(
    ffmpeg: str,
) -> None:
    found = libvmaf_facts(identify(Runner(), ffmpeg))
    for model in MODELS:
        assert (try_model(Runner(), ffmpeg, model)[0] is not None) == (model in found.models)
    assert identify(Runner(), ffmpeg, "vmaf_v1.0.16_3d0h").identity.libvmaf_version, (
        "CAMBI takes no picture below 216x176"
    )
    with pytest.raises(
        ToolError, match="has no model 'vmaf_v9'; `vmaf-tune doctor` lists the models"
    ):
        identify(Runner(), ffmpeg, "vmaf_v9")


@no_hardware
def test_nothing_to_confirm_here(tmp_path: Path) -> None:
    done = vmaf_tune(tmp_path, "doctor", "--confirm")
    assert done.returncode == 0
    assert "nothing to confirm: no hardware encoder works on this machine" in done.stdout
    assert "h264_nvenc, hevc_nvenc, av1_nvenc, h264_qsv, hevc_qsv, av1_qsv" in done.stdout
    assert vmaf_tune(tmp_path, "doctor", "--confirm", "--encoders", "av1_qsv").returncode == 3


def test_confirm_runs_a_real_sweep_and_all_its_checks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(confirming, "NUM_FRAMES", 12)
    done = vmaf_tune(tmp_path, "doctor", "--confirm", "--encoders", "x264")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("### vmaf-tune doctor --confirm")
    assert done.stdout.count("| libx264 |") == 7 and "**no**" not in done.stdout
    assert done.stdout.count("/libx264/medium/") == 8, "four quality values at two depths"
    assert not list(tmp_path.iterdir()), "it leaves nothing behind"
