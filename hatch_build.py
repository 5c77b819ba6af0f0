"""What the wheel carries besides code: the models that registry.json names, sweeps and schemas.

Their places at the top of the repository stay; an editable install finds them there.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

MODELS, SWEEPS, SCHEMAS = "vmaf_train/shipped/tiny", "vmaftune/sweeps", "vmaftune/schemas"


def package_data(root: Path) -> dict[Path, str]:
    """Files of the checkout at `root`, each with its place in the wheel."""
    tiny = root / "model" / "tiny"
    entries = json.loads((tiny / "registry.json").read_text(encoding="utf-8"))["entries"]
    named = {"registry.json", "registry.schema.json"}
    for entry in entries:
        model = Path(entry.get("onnx") or entry["file"])
        named |= {model.name, *(f.name for f in tiny.glob(f"{model.stem}-*.json"))}
    found = {tiny / name: f"{MODELS}/{name}" for name in named}
    for folder, place in (("tools/vmaf-tune/sweeps", SWEEPS), ("schemas", SCHEMAS)):
        files = [f for f in (root / folder).glob("*") if f.suffix in (".toml", ".json")]
        found |= {file: f"{place}/{file.name}" for file in files}
    return found


class CustomBuildHook(BuildHookInterface):
    """Adds the files to a wheel; an editable one needs none."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Called by hatchling before it builds; `version` is "standard" or "editable"."""
        if version != "editable":
            found = package_data(Path(self.root))
            build_data["force_include"] |= {str(file): place for file, place in found.items()}
