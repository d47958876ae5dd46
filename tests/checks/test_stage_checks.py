from pathlib import Path
from typing import Any

import pytest

from data.trees import category, huge_png
from flawline.errors import ChecksFailed, FlawlineError
from flawline.files import read_json
from flawline.settings import Settings
from flawline.stages import checks, manifest
from flawline.workspace import Workspace


@pytest.fixture
def settings(make_settings: Any) -> Settings:
    return make_settings(["castings"], ["boards"], min_good=3)


@pytest.fixture
def filled(workspace: Workspace) -> Workspace:
    category(workspace.data / "castings" / "gear", train=30)
    category(workspace.data / "boards" / "pcb", ("burn",), train=1)
    return workspace


def test_sound_data(filled: Workspace, settings: Settings, capsys: pytest.CaptureFixture[str]) -> None:
    manifest.run(filled, settings)
    checks.run(filled, settings)
    assert read_json(filled.checks / "summary.json")["ok"] is True
    assert "The data passed. 0 warning(s)." in (filled.checks / "summary.md").read_text()
    assert (filled.data_docs / "index.html").is_file()
    assert not (filled.root / "reports" / "checks-failed.md").exists()
    before = {path.name: path.read_bytes() for path in filled.checks.iterdir()}
    checks.run(filled, settings)
    assert {path.name: path.read_bytes() for path in filled.checks.iterdir()} == before
    assert capsys.readouterr().out == ""


def test_broken_data_stops_and_mended_data_goes_on(
    filled: Workspace, settings: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    manifest.run(filled, settings)
    checks.run(filled, settings)
    assert filled.checks.exists()
    good = filled.data / "castings" / "gear" / "train" / "good"
    kept = {}
    for i in range(25):
        kept[i] = (good / f"{i}.png").read_bytes()
        (good / f"{i}.png").write_bytes(b"")
    huge_png(good / "99.png")
    manifest.run(filled, settings)
    with pytest.raises(ChecksFailed) as error:
        checks.run(filled, settings)
    told = str(error.value)
    assert told.startswith("castings/gear/train/good/0.png: zero bytes (and 26 more, all named in")
    assert told.endswith("replace or remove the image") and "\n" not in told
    printed = capsys.readouterr().err
    assert printed.count("zero bytes") == 20 and "… and 6 more" in printed
    failed = filled.root / "reports" / "checks-failed.md"
    assert failed.read_text().count(": zero bytes") == 25 and "99.png: too large" in failed.read_text()
    assert (filled.data_docs / "index.html").is_file()
    assert not filled.checks.exists()

    for i, content in kept.items():
        (good / f"{i}.png").write_bytes(content)
    (good / "99.png").unlink()
    manifest.run(filled, settings)
    checks.run(filled, settings)
    assert (filled.checks / "summary.json").is_file() and not failed.exists()


def test_missing_manifest_and_vocabulary(filled: Workspace, settings: Settings) -> None:
    with pytest.raises(FlawlineError, match=r"manifest\.parquet is missing"):
        checks.run(filled, settings)
    manifest.run(filled, settings)
    Path(filled.vocabulary).write_text("defects: [")
    with pytest.raises(FlawlineError, match=r"vocabulary\.yaml is not valid YAML"):
        checks.run(filled, settings)
    assert not filled.data_docs.exists()
