"""The shape of the code gets simpler and never the other way round: a ratchet. When a figure
falls, lower its limit here.
"""

from __future__ import annotations

from pathlib import Path

import measure_code
import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def found() -> list[measure_code.Module]:
    return measure_code.modules(ROOT)


def test_few_values_have_no_type(found: list[measure_code.Module]) -> None:
    assert measure_code.any_per_1000(found) < 4.2


def test_types_are_not_imported_from_what_does_work(found: list[measure_code.Module]) -> None:
    names = {module.name for module in found}
    arrows = {module.name: measure_code.imports(module, names) for module in found}
    assert measure_code.depth(arrows) <= 15


def test_functions_are_short(found: list[measure_code.Module]) -> None:
    assert measure_code.long_functions(found) == []


def test_a_module_of_ours_has_one_name(found: list[measure_code.Module]) -> None:
    assert measure_code.aliases(found) == []


def test_a_condition_is_one_thought(found: list[measure_code.Module]) -> None:
    assert measure_code.nested_ternaries(found) == []


def test_the_formatter_decides(found: list[measure_code.Module]) -> None:
    told = ("fmt: skip", "noqa: E501")
    assert [module.name for module in found if any(word in module.text for word in told)] == []


def test_the_measures_see_what_they_are_for() -> None:
    text = (
        "from vmaftune import cell as other\n"
        "def f(x: Any) -> int:\n"
        "    return 1 if x else 2 if x > 1 else 3\n"
    )
    parsed = [
        measure_code.Module(name=name, text=t, tree=measure_code.ast.parse(t))
        for name, t in (("vmaftune.a", text), ("vmaftune.cell", ""))
    ]
    assert measure_code.aliases(parsed) == ["vmaftune.a: vmaftune.cell"]
    assert len(measure_code.nested_ternaries(parsed)) == 1
    assert measure_code.num_any(parsed) == 1
    names = {module.name for module in parsed}
    assert measure_code.imports(parsed[0], names) == {"vmaftune.cell"}
