"""The plant of spots.py, its settings and its detector."""

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from flawline.clip.backbone import Backbone
from flawline.settings import Settings
from flawline.workspace import Workspace

sys.path.insert(0, str(Path(__file__).parent))

import spots


@pytest.fixture
def plant(tmp_path: Path) -> Workspace:
    return spots.make_plant(tmp_path / "wörk space")


@pytest.fixture
def settings(plant: Workspace) -> Settings:
    return spots.settings_of(plant)


@pytest.fixture(scope="session")
def backbone(tmp_path_factory: pytest.TempPathFactory) -> Backbone:
    root = tmp_path_factory.mktemp("backbone")
    plant = spots.make_plant(root / "w", 1, 1)
    return spots.backbone_of(spots.settings_of(plant), root)


@pytest.fixture
def detector(backbone: Backbone) -> spots.Spots:
    return spots.Spots(backbone)


@pytest.fixture
def arrive(plant: Workspace) -> Callable[..., list[Path]]:
    """`arrive("burn", 6)` puts so many new images of a look into incoming/; `tint` makes the plate brighter."""

    def put(defect: str, count: int, start: int = 0, tint: int = 150) -> list[Path]:
        folder = plant.root / "incoming"
        return [
            spots.save(folder / f"{defect}-{number:03d}.png", f"in {number}", defect, tint)
            for number in range(start, start + count)
        ]

    return put
