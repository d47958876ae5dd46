"""The made workspace for each test, and plots that are drawn once."""

import shutil
from pathlib import Path

import pytest

from flawline.report.figures import Picture, plot
from flawline.report.gather import Results, gather
from flawline.settings import Settings, load_settings
from flawline.workspace import Workspace
from report.made import build


@pytest.fixture(scope="session")
def _built(tmp_path_factory: pytest.TempPathFactory, repository: Path) -> Path:
    root = tmp_path_factory.mktemp("report") / "made"
    build(root, repository)
    return root


@pytest.fixture
def made(_built: Path, tmp_path: Path) -> tuple[Workspace, Settings]:
    """A fresh copy of the made workspace: a test may break it."""
    root = tmp_path / "wörk space"
    shutil.copytree(_built, root)
    return Workspace(root), load_settings(root / "params.yaml")


@pytest.fixture
def results(made: tuple[Workspace, Settings]) -> Results:
    """What the report reads of the made workspace."""
    return gather(*made)


_DRAWN: dict[str, Picture] = {}


@pytest.fixture
def real_plots() -> None:
    """Asked for by a test that must see every plot drawn anew."""


@pytest.fixture(autouse=True)
def _draw_once(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Drawing is nearly all of the page's time: the same plot is drawn once for all tests."""
    if "real_plots" in request.fixturenames:
        return

    def remembered(*given: object, **named: object) -> Picture:
        key = repr((given, named))
        if key not in _DRAWN:
            _DRAWN[key] = plot(*given, **named)
        return _DRAWN[key]

    monkeypatch.setattr("flawline.report.curves.plot", remembered)
