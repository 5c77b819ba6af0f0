"""The list of what is handled well names tests that are there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

HERE = Path(__file__).parent
NAMED = re.findall(r"`([./\w]+\.py)(?:::(\w+))?`", (HERE / "README.md").read_text("utf-8"))


@pytest.mark.parametrize(("file", "test"), NAMED)
def test_what_it_names_is_there(file: str, test: str) -> None:
    text = (HERE / file).read_text("utf-8")
    assert f"def {test}(" in text if test else "def test_" in text
