"""What the pages tell a reader to type exists: commands, options, make targets, links; and
docs/cli.md is current.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import api_page
import cli_page
import pytest
import vmaftune
from typer.main import get_command
from vmaftune.cli import EXIT_CODES, app

ROOT = Path(__file__).parents[1]
PAGES = sorted(
    page
    for pattern in (
        "*.md",
        "docs/**/*.md",
        "tools/*/*.md",
        "ai/*.md",
        "model/*.md",
        "runs/**/*.md",
        "tests/**/*.md",
    )
    for page in ROOT.glob(pattern)
)
GROUP: Any = get_command(app)
FENCE = re.compile(r"^```[a-z]*\n(.*?)^```", re.MULTILINE | re.DOTALL)
INDENTED = re.compile(r"^(?: {4}|\t)(.+)$", re.MULTILINE)
INLINE = re.compile(r"(?<!`)`([^`\n]+)`(?!`)")


def split(text: str) -> list[str]:
    """Shell words up to a pipe, redirection or comment."""
    lexer = shlex.shlex(text, posix=True, punctuation_chars="|&<>")
    lexer.whitespace_split = True
    words = []
    for word in lexer:
        if set(word) <= set("|&<>"):
            break
        words.append(word)
    return words


def lines(text: str) -> Iterator[str]:
    """Lines of every code block, continued ones joined."""
    blocks = FENCE.findall(text) + ["\n".join(INDENTED.findall(FENCE.sub("", text)))]
    for block in blocks:
        yield from (
            line.strip().removeprefix("$ ") for line in block.replace("\\\n", " ").splitlines()
        )


def pasted(text: str) -> Iterator[str]:
    """Command lines of vmaf-tune in code blocks, without the path of the program."""
    for line in lines(text):
        match = re.match(r"(?:\S*/)?vmaf-tune (.*)", line)
        if match:
            yield match[1]


def parse(arguments: str) -> None:
    """Let the application parse a command line. Raises what it would tell the user."""
    command, *rest = split(arguments)
    if command.startswith("-"):
        GROUP.make_context("vmaf-tune", [command, *rest], resilient_parsing=True)
    else:
        assert command in GROUP.commands, f"there is no command {command!r}"
        GROUP.load(command).make_context(command, rest)


def options_of(command: str) -> set[str]:
    return {
        "--help",
        *(flag for p in GROUP.load(command).params for flag in (*p.opts, *p.secondary_opts)),
    }


def test_there_are_pages() -> None:
    assert {ROOT / "README.md", ROOT / "CHANGELOG.md", ROOT / "tools/vmaf-tune/README.md"} <= set(
        PAGES
    )


def test_the_reference_of_the_command_line_is_current() -> None:
    page = (ROOT / "docs/cli.md").read_text(encoding="utf-8")
    assert page.strip() == cli_page.markdown().strip(), (
        "run: python tools/vmaf-tune/dev/cli_page.py > docs/cli.md"
    )


def test_the_reference_of_the_python_api_is_current() -> None:
    page = (ROOT / "docs/api.md").read_text(encoding="utf-8")
    assert page.strip() == api_page.markdown().strip(), (
        "run: python tools/vmaf-tune/dev/api_page.py > docs/api.md"
    )


def test_the_reference_of_the_python_api_has_every_name() -> None:
    page = api_page.markdown()
    assert [name for name in vmaftune.NAMES if f"### vmaftune.{name}\n" not in page] == []


def test_the_reference_names_every_exit_code() -> None:
    named = {int(code) for code in re.findall(r"^\| (\d+) \|", cli_page.markdown(), re.MULTILINE)}
    assert named == {0, 1, *(code for _, code in EXIT_CODES)}


@pytest.mark.parametrize("name", sorted(GROUP.commands))
def test_every_help_has_an_example_that_parses(name: str) -> None:
    _, mark, example = " ".join(GROUP.load(name).help.split()).partition("Example: vmaf-tune ")
    assert mark
    assert example.startswith(name)
    parse(example)


@pytest.mark.parametrize("name", sorted(GROUP.commands))
def test_the_manual_has_an_example_of_every_command(name: str) -> None:
    manual = (ROOT / "tools/vmaf-tune/README.md").read_text(encoding="utf-8")
    assert any(split(command)[0] == name for command in pasted(manual))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_commands_in_code_blocks_parse(page: Path) -> None:
    for command in pasted(page.read_text(encoding="utf-8")):
        try:
            parse(command)
        except (
            Exception
        ) as refusal:  # whatever the parser raises, the reader should see which example it was
            pytest.fail(f"vmaf-tune {command}: {getattr(refusal, 'message', refusal)}")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_options_in_running_text_exist(page: Path) -> None:
    for code in INLINE.findall(FENCE.sub("", page.read_text(encoding="utf-8"))):
        match = re.match(r"vmaf-tune ([a-z]+)\b", code)
        if match:
            assert match[1] in GROUP.commands, code
            used = set(re.findall(r"(?<![\w-])--[a-z][a-z0-9-]*", code))
            assert used <= options_of(match[1]), code


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_make_targets_and_links_exist(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    targets = set(
        re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
    )
    code = [*INLINE.findall(FENCE.sub("", text)), *lines(text)]
    for command in (c for c in code if c.startswith("make ")):
        words = [
            w
            for w in split(command)[1:]
            if "=" not in w and not w.startswith("-") and not w.isdigit()
        ]
        assert {w for w in words if w.islower()} <= targets, command
    for link in re.findall(r"\]\(([^)#\s]+)[^)]*\)", FENCE.sub("", text)):
        assert re.match(r"[a-z]+:", link) or (page.parent / link).exists(), link
