"""A disk that fills up in the middle of a retraining: of a stage, of the log, of the registry. Nothing half stays."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import small_line
from aftermath import assert_sound, assert_sound_and_repeatable
from flawline.files import sha256_file
from flawline.line import pipeline
from flawline.settings import load_settings
from flawline.track import log, registry
from flawline.track.store import open_store
from flawline.workspace import Workspace
from servers.storage.conftest import SmallDisk

pytestmark = pytest.mark.slow
LACKS = ("data",)  # the miniature line needs none
RESULTS = ("dvc.lock", "results/metrics.csv", "reports/index.html", "decisions/0001-promote.json")


def results(root: Path) -> dict[str, str]:
    return {name: sha256_file(root / name) for name in RESULTS}


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory, prefect_api: None) -> dict[str, str]:
    from flows.retrain import main

    root = tmp_path_factory.mktemp("undisturbed") / "w"
    small_line.make_workspace(root)
    main(root)
    return results(root)


def full_once(
    disk: SmallDisk, real: Callable[..., Any], met: Callable[..., bool], errors: list[str]
) -> Callable[..., Any]:
    """`real`, but while the first call that meets a condition runs, the disk is full."""

    def call(*given: Any, **named: Any) -> Any:
        if errors or not met(*given):
            return real(*given, **named)
        disk.fill(spare=16_384)
        try:
            return real(*given, **named)
        except Exception as error:
            errors.append(f"{type(error).__name__}: {error}")
            raise
        finally:
            disk.free()

    return call


@pytest.mark.parametrize("where", ["stage", "log", "register"])
def test_full_in_the_middle_then_the_same_bytes(
    where: str, small_disk: SmallDisk, undisturbed: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from flows.retrain import main

    root, errors = small_disk.folder / "w", list[str]()
    small_line.make_workspace(root)
    with monkeypatch.context() as patched:
        if where == "stage":
            hit = full_once(
                small_disk, pipeline.run, lambda place, name, **_: name == "evaluate@boards", errors
            )
            patched.setattr(pipeline, "run", hit)
        elif where == "log":
            patched.setattr(log, "log_cell", full_once(small_disk, log.log_cell, lambda *_: True, errors))
        else:
            hit = full_once(small_disk, registry.register, lambda *_: True, errors)
            patched.setattr(registry, "register", hit)
        try:
            main(root)
        except (
            Exception
        ) as error:  # a failed run is fine: what it left is looked at, and the next one has to mend it
            errors.append(f"run: {type(error).__name__}")
    assert errors, "the disk was never full"
    main(root)
    assert results(root) == undisturbed
    settings = load_settings(root / "params.yaml")
    [version] = registry.versions(Workspace(root), settings)
    assert version.aliases == ("champion",)
    store = open_store(Workspace(root), settings)
    assert len(store.client.search_runs([store.experiment_id])) == 7
    assert not [path for path in root.rglob("*.partial") if ".state" not in path.parts]
    small_disk.resize(8192)  # doctor wants two gigabytes free
    (assert_sound_and_repeatable if where == "stage" else assert_sound)(root, LACKS)
