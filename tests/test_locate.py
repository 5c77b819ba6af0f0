"""Where models are looked up, and where `ship` may write."""

from __future__ import annotations

from pathlib import Path

import pytest
from vmaf_train import locate
from vmaf_train.errors import ModelError
from vmaf_train.shipping import registry

ROOT = Path(__file__).parents[1]


def models(folder: Path) -> Path:
    """An empty registry in `folder`."""
    (folder / "tiny").mkdir(parents=True)
    (folder / "tiny/registry.json").write_text('{"schema_version": 2, "entries": []}')
    return folder


@pytest.fixture
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, outside any checkout."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv(locate.ENV_MODELS, raising=False)
    return tmp_path


def test_the_order_is_flag_variable_checkout_package(
    elsewhere: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert locate.to_read() == ROOT / "model", "an editable install falls back to its checkout"
    models(elsewhere / "model")
    assert locate.to_read() == Path("model")
    (elsewhere / "sub/sub").mkdir(parents=True)
    monkeypatch.chdir(elsewhere / "sub/sub")
    assert locate.to_read() == elsewhere / "model"
    monkeypatch.setenv(locate.ENV_MODELS, "mine")
    assert locate.to_read() == Path("mine")
    assert locate.to_read(Path("named")) == Path("named")


def test_what_the_wheel_carries_comes_before_the_checkout(
    elsewhere: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(locate, "_SHIPPED", models(elsewhere / "package/shipped"))
    assert locate.to_read() == elsewhere / "package/shipped"


def test_ship_writes_where_one_stands_and_never_into_the_package(
    elsewhere: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert locate.to_write() == Path("model")
    package = elsewhere / "package"
    monkeypatch.setattr(locate, "_PACKAGE", package)
    with pytest.raises(ModelError, match="--model-dir"):
        locate.to_write(models(package / "shipped"))


def test_where_nothing_was_shipped_the_registry_is_empty(elsewhere: Path) -> None:
    assert registry.load(elsewhere / "new").entries == ()
    (elsewhere / "new/tiny").mkdir(parents=True)
    assert registry.load(elsewhere / "new").entries == ()
    (elsewhere / "new/tiny/some-12345678.onnx").touch()
    with pytest.raises(ModelError, match="registry.json does not exist"):
        registry.load(elsewhere / "new")
