"""Versions, aliases, rollback, and prompt sets fetched and verified."""

import shutil
import threading
from pathlib import Path

import pytest

from flawline.errors import FlawlineError
from flawline.files import sha256_folder
from flawline.gate import decisions
from flawline.settings import Settings
from flawline.track import registry
from flawline.track.store import open_store
from flawline.workspace import Cell, Workspace


@pytest.fixture
def run_id(workspace: Workspace, settings: Settings) -> str:
    store = open_store(workspace, settings)
    return store.client.create_run(store.experiment_id).info.run_id


@pytest.fixture
def two(workspace: Workspace, settings: Settings, run_id: str) -> list[registry.Version]:
    return [registered(workspace, settings, run_id, seed) for seed in (0, 1)]


def registered(workspace: Workspace, settings: Settings, run_id: str, seed: int) -> registry.Version:
    return registry.register(
        workspace, settings, workspace.prompts(Cell("learned", "castings", seed)), run_id
    )


def aliases(workspace: Workspace, settings: Settings) -> dict[str, str]:
    return {a: v.version for v in registry.versions(workspace, settings) for a in v.aliases}


def test_a_prompt_set_is_one_version(workspace: Workspace, settings: Settings, run_id: str) -> None:
    first = registered(workspace, settings, run_id, 0)
    assert registered(workspace, settings, run_id, 0) == first
    second = registered(workspace, settings, run_id, 1)
    assert [v.version for v in registry.versions(workspace, settings)] == ["1", "2"]
    folder = workspace.prompts(Cell("learned", "castings", 1))
    expected = registry.Version("2", sha256_folder(folder), "learned", "castings", 1)
    assert second == expected == registry.versions(workspace, settings)[1]


def test_an_interrupted_registration_leaves_one_model(
    workspace: Workspace, settings: Settings, run_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mlflow.tracking import MlflowClient

    def killed(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(MlflowClient, "create_model_version", killed)
        registered(workspace, settings, run_id, 0)
    assert registry.versions(workspace, settings) == []
    assert registered(workspace, settings, run_id, 0).version == "1"
    store = open_store(workspace, settings)
    assert len(store.client.search_logged_models([store.experiment_id])) == 1


def test_promotion_moves_the_aliases(
    workspace: Workspace, settings: Settings, two: list[registry.Version]
) -> None:
    first, second = two
    registry.set_challenger(workspace, settings, first)
    registry.promote(workspace, settings, first)
    assert aliases(workspace, settings) == {"champion": "1"}
    registry.set_challenger(workspace, settings, second)
    assert aliases(workspace, settings) == {"champion": "1", "challenger": "2"}
    registry.promote(workspace, settings, second)
    registry.promote(workspace, settings, second)
    assert aliases(workspace, settings) == {"champion": "2", "previous_champion": "1"}


def test_rollback_swaps_is_written_down_and_can_be_taken_back(
    workspace: Workspace, settings: Settings, two: list[registry.Version]
) -> None:
    first, second = two
    with pytest.raises(FlawlineError, match="no previous champion"):
        registry.rollback(workspace, settings)
    registry.promote(workspace, settings, first)
    registry.promote(workspace, settings, second)
    back, taken = registry.rollback(workspace, settings)
    assert (back.version, taken.version) == ("1", "2")
    assert aliases(workspace, settings) == {"champion": "1", "previous_champion": "2"}
    assert decisions.was_rolled_back(workspace, second.sha256)
    registry.rollback(workspace, settings)
    assert aliases(workspace, settings) == {"champion": "2", "previous_champion": "1"}
    events = registry.history(workspace, settings)
    assert [(e.number, e.verdict, e.aliases) for e in events] == [
        (1, "rollback", ("previous_champion",)),
        (2, "rollback", ("champion",)),
    ]


@pytest.fixture
def three(workspace: Workspace, settings: Settings, run_id: str) -> list[registry.Version]:
    """Three versions that served one after the other, the last of them now."""
    found = [registered(workspace, settings, run_id, seed) for seed in (0, 1, 2)]
    for version, before in zip(found, [None, *found], strict=False):
        registry.promote(workspace, settings, version)
        then = before.described() if before else None
        record = decisions.by_hand("promote", version.described(), then, "…")
        decisions.append(workspace, record)
    return found


def test_a_rollback_may_go_several_steps_back(
    workspace: Workspace, settings: Settings, three: list[registry.Version]
) -> None:
    back, taken = registry.rollback(workspace, settings, "1")
    assert (back.version, taken.version) == ("1", "3")
    assert aliases(workspace, settings) == {"champion": "1", "previous_champion": "3"}
    assert decisions.was_rolled_back(workspace, three[2].sha256)
    assert not decisions.was_rolled_back(workspace, three[1].sha256), (
        "it served before and was not taken back"
    )
    registry.rollback(workspace, settings)
    assert aliases(workspace, settings) == {"champion": "3", "previous_champion": "1"}


def test_a_rollback_goes_only_to_what_served(
    workspace: Workspace, settings: Settings, two: list[registry.Version]
) -> None:
    registry.promote(workspace, settings, two[1])
    for to, told in (("1", "never served"), ("9", "no version '9'")):
        with pytest.raises(FlawlineError, match=told):
            registry.rollback(workspace, settings, to)
    decisions.append(workspace, decisions.by_hand("promote", two[1].described(), None, "…"))
    with pytest.raises(FlawlineError, match="champion already"):
        registry.rollback(workspace, settings, "2")
    assert aliases(workspace, settings) == {"champion": "2"} and len(decisions.history(workspace)) == 1


def test_a_rollback_to_a_damaged_version_changes_nothing(
    workspace: Workspace, settings: Settings, three: list[registry.Version]
) -> None:
    for stored in (workspace.state / "mlflow" / "artifacts" / "models").rglob("prompt_set"):
        if sha256_folder(stored) == three[1].sha256:
            (stored / "prompts.safetensors").write_bytes(b"other")
    with pytest.raises(FlawlineError, match="version 2 is damaged"):
        registry.rollback(workspace, settings)
    assert aliases(workspace, settings) == {"champion": "3", "previous_champion": "2"}
    assert len(decisions.history(workspace)) == 3


def test_a_reference_is_an_alias_a_version_or_a_folder(
    workspace: Workspace, settings: Settings, two: list[registry.Version]
) -> None:
    registry.promote(workspace, settings, two[1])
    folder = workspace.prompts(Cell("words", "castings", 0))
    assert registry.resolve(workspace, settings, str(folder)) == folder
    by_alias = registry.resolve(workspace, settings, "champion")
    assert by_alias == registry.resolve(workspace, settings, "2")
    assert sha256_folder(by_alias) == two[1].sha256 and workspace.state in by_alias.parents
    for wrong in ("3", "challenger", "nobody", str(workspace.root)):
        with pytest.raises(FlawlineError):
            registry.resolve(workspace, settings, wrong)


def test_an_empty_registry_says_what_to_do(workspace: Workspace, settings: Settings) -> None:
    with pytest.raises(FlawlineError, match="flawline retrain"):
        registry.resolve(workspace, settings, "champion")
    assert registry.history(workspace, settings) == []


def test_a_damaged_local_copy_is_fetched_again(
    workspace: Workspace, settings: Settings, two: list[registry.Version]
) -> None:
    folder = registry.resolve(workspace, settings, "1")
    (folder / "prompts.safetensors").write_bytes(b"half")
    assert sha256_folder(registry.resolve(workspace, settings, "1")) == two[0].sha256


@pytest.mark.parametrize("spoil", ["change", "remove"])
def test_a_damaged_version_is_refused(
    workspace: Workspace, settings: Settings, two: list[registry.Version], spoil: str
) -> None:
    [stored] = [
        path
        for path in (workspace.state / "mlflow" / "artifacts" / "models").rglob("prompt_set")
        if sha256_folder(path) == two[0].sha256
    ]
    if spoil == "change":
        (stored / "prompts.safetensors").write_bytes(b"other")
    else:
        shutil.rmtree(stored)
    with pytest.raises(FlawlineError, match="version 1"):
        registry.resolve(workspace, settings, "1")
    assert not list((workspace.state / "prompts").glob("*"))


def test_promotions_wait_for_each_other(
    workspace: Workspace, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    order = []
    inside, release = threading.Event(), threading.Event()

    def first() -> None:
        with registry.promotion_lock(workspace, settings):
            inside.set()
            release.wait(10)
            order.append("first")

    thread = threading.Thread(target=first)
    thread.start()
    inside.wait(10)
    with monkeypatch.context() as patched:
        patched.setattr(registry, "_WAIT_SECONDS", 0.2)
        with (
            pytest.raises(FlawlineError, match="another promotion"),
            registry.promotion_lock(workspace, settings),
        ):
            order.append("never")
    release.set()
    with registry.promotion_lock(workspace, settings):
        order.append("second")
    thread.join()
    assert order == ["first", "second"]


def test_a_version_without_our_tags_is_left_alone(
    workspace: Workspace, settings: Settings, two: list[registry.Version], tmp_path: Path
) -> None:
    client = open_store(workspace, settings).client
    client.create_model_version(settings.track.model, tmp_path.as_uri())
    assert [v.version for v in registry.versions(workspace, settings)] == ["1", "2"]
