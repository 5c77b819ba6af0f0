"""Pages have one sentence a line, and no line of prose is longer than 100 columns."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
import sentences

ROOT = Path(__file__).parents[2]
# Made by a program.
MADE = {"docs/cli.md", "docs/api.md"}
LISTED = subprocess.run(
    ["git", "ls-files", "*.md"], cwd=ROOT, capture_output=True, text=True, check=True
).stdout.split("\n")
PAGES = [page for page in LISTED if page and page not in MADE and not page.startswith("model/")]


@pytest.mark.parametrize("page", PAGES)
def test_a_page_has_one_sentence_a_line(page: str) -> None:
    text = (ROOT / page).read_text(encoding="utf-8")
    assert sentences.rewrite(text) == text, f"python tools/vmaf-tune/dev/sentences.py {page}"


def test_what_is_no_prose_stays() -> None:
    page = (
        "# A heading. With two sentences\n\n"
        "One sentence. Another with `a. B` in it, e.g. This\none.\n"
        "- An item. It goes on\n  here.\n\n"
        "    code. Stays as it is\n\n"
        "```sh\nvmaf-tune. Stays\n```\n\n"
        "| a table. | Stays |\n|---|---|\n"
    )
    assert sentences.rewrite(page) == (
        "# A heading. With two sentences\n\n"
        "One sentence.\nAnother with `a. B` in it, e.g. This one.\n"
        "- An item.\n  It goes on here.\n\n"
        "    code. Stays as it is\n\n"
        "```sh\nvmaf-tune. Stays\n```\n\n"
        "| a table. | Stays |\n|---|---|\n"
    )
    assert sentences.rewrite(sentences.rewrite(page)) == sentences.rewrite(page)
