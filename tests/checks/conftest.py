"""Great Expectations takes seconds to import: one broken and one sound tree serve most tests of this room."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from ruamel.yaml import YAML

from data.trees import category, cut_short, huge_png, mask, picture
from flawline.checks.run import run_checks
from flawline.checks.summary import Finding, Summary
from flawline.data.manifest import build_manifest
from flawline.data.vocabulary import load_vocabulary
from flawline.settings import Settings, parse_settings


@dataclass(frozen=True)
class Checked:
    """A tree that went through the suite."""

    summary: Summary
    docs: Path

    def finding(self, name: str) -> Finding:
        return next(finding for finding in self.summary.findings if finding.name == name)


@pytest.fixture(scope="session")
def make_settings(repository: Path) -> Callable[..., Settings]:
    """Settings of params.yaml with other data sets, and `checks` overridden by keywords."""

    def make(train: list[str], test: list[str], **checks: Any) -> Settings:
        raw = YAML(typ="safe", pure=True).load(repository / "params.yaml")
        raw["data"].update(train=train, test=test, max_pixels=1_000_000)
        raw["checks"].update(checks)
        return parse_settings(raw)

    return make


@pytest.fixture(scope="session")
def check(repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[Path, Settings], Checked]:
    def run(data: Path, settings: Settings) -> Checked:
        manifest = build_manifest(data, settings.data.all, settings.data.max_pixels)
        vocabulary = load_vocabulary(repository / "vocabulary.yaml")
        docs = tmp_path_factory.mktemp("docs") / "data docs"
        return Checked(run_checks(manifest, settings, vocabulary, data, docs), docs)

    return run


@pytest.fixture(scope="session")
def sound_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    data = tmp_path_factory.mktemp("sound") / "data"
    category(data / "castings" / "gear")
    category(data / "boards" / "pcb", ("burn", "chip"))
    return data


@pytest.fixture(scope="session")
def sound(sound_data: Path, check: Any, make_settings: Any) -> Checked:
    return check(sound_data, make_settings(["castings"], ["boards"]))


@pytest.fixture(scope="session")
def broken(tmp_path_factory: pytest.TempPathFactory, check: Any, make_settings: Any) -> Checked:
    """Everything that can be wrong with data, each fault on images of its own."""
    data = tmp_path_factory.mktemp("broken") / "data"
    gear = category(data / "castings" / "gear", train=20)
    pcb = category(data / "boards" / "pcb", ("burn", "wobble"))
    good = gear / "train" / "good"
    (good / "0.png").write_bytes(b"")
    (good / "1.png").write_text("hello")
    cut_short(good / "2.png")
    huge_png(good / "3.png")
    picture(good / "4.png", side=20)
    (good / "5.png").unlink()
    (good / "5.png").symlink_to(picture(data.parent / "outside.png"))
    Image.new("RGB", (72, 72), (128, 128, 128)).save(good / "6.png")
    (pcb / "test" / "good" / "0.png").write_bytes((good / "7.png").read_bytes())  # across data sets
    (gear / "test" / "good" / "1.png").write_bytes((good / "8.png").read_bytes())  # within one
    picture(data / "castings" / "Gehäuse 2" / "test" / "scratch" / "Riß 1.png")  # no good image, no mask
    (pcb / "ground_truth" / "burn" / "0_mask.png").unlink()
    mask(pcb / "ground_truth" / "burn" / "1_mask.png", (72, 70))
    mask(pcb / "ground_truth" / "burn" / "2_mask.png", marked=False)
    return check(data, make_settings(["castings"], ["boards"]))
