"""Markdown with one sentence a line and 100 columns: `python sentences.py PAGE...` rewrites pages.

Code, tables, headings and pictures stay as they are; what a page looks like does not change.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

WIDTH = 100
_WORD = re.compile(r"(?:[^\s`\[]|`[^`]*`|\[[^\]]*\]|\[)+")
_END = re.compile(r".*(?<!e\.g)(?<!i\.e)[.!?][)*\"]*$")
_BEGIN = re.compile(r"[A-Z`*\[(\"]")
_ITEM = re.compile(r"( *)([-*+]|\d+\.) +")
_KEPT = re.compile(r"\s*(\||#|!\[|<|>|---|\[[^\]]+\]:)|( {4}|\t)")


def rewrite(text: str) -> str:
    """The page with one sentence a line; one that is longer than the width goes on below."""
    done: list[str] = []
    block: list[str] = []
    fenced = False
    for line in [*text.splitlines(), ""]:
        fence = line.lstrip().startswith("```")
        kept = fenced or fence or not line.strip() or (_KEPT.match(line) and not _in_item(block))
        if block and (kept or _ITEM.match(line)):
            done += _sentences(block)
            block = []
        if kept:
            done.append(line)
        else:
            block.append(line)
        fenced ^= fence
    return "\n".join(done).rstrip() + "\n"


def _in_item(block: list[str]) -> bool:
    """True where an indented line goes on with a list's item."""
    return bool(block and _ITEM.match(block[0]))


def _sentences(block: list[str]) -> list[str]:
    item = _ITEM.match(block[0])
    first = item[0] if item else re.match(" *", block[0])[0]  # type: ignore[index]  # always matches
    text = " ".join(line.strip() for line in block)
    if item:
        text = text[len(item[0].lstrip()) :]
    lines = [line for words in _split(text) for line in _wrapped(words, WIDTH - len(first))]
    return [(first if i == 0 else " " * len(first)) + line for i, line in enumerate(lines)]


def _split(text: str) -> list[list[str]]:
    """The words of every sentence; code in backticks and the text of a link are one word."""
    found: list[list[str]] = [[]]
    for word in _WORD.findall(text):
        if found[-1] and _END.match(found[-1][-1]) and _BEGIN.match(word):
            found.append([])
        found[-1].append(word)
    return found


def _wrapped(words: list[str], width: int) -> list[str]:
    """Lines of at most `width` where words allow it."""
    lines = [words[0]]
    for word in words[1:]:
        fits = len(lines[-1]) + 1 + len(word) <= width
        # A line that begins like a list's item or a heading would become one.
        if fits or re.match(r"([-*+#>]|\d+\.)$", word):
            lines[-1] += f" {word}"
        else:
            lines.append(word)
    return lines


if __name__ == "__main__":
    for name in sys.argv[1:]:
        page = Path(name)
        page.write_text(rewrite(page.read_text(encoding="utf-8")), encoding="utf-8")
