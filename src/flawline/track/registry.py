"""The registry: prompt sets as versions of one model, and the aliases that say which of them serves."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from flawline.errors import FlawlineError
from flawline.files import read_json, sha256_folder
from flawline.gate import decisions
from flawline.settings import Settings
from flawline.track.store import Store, embedded_uri, open_store
from flawline.track.turns import turn
from flawline.workspace import Workspace

CHAMPION, CHALLENGER, PREVIOUS = "champion", "challenger", "previous_champion"
SHA = "flawline.sha256"
_WAIT_SECONDS = 60


@dataclass(frozen=True)
class Version:
    """A registered prompt set.

    Attributes:
        version: its number in the registry.
        sha256: of the prompt-set folder (see `flawline.files.sha256_folder`).
        method, train_set, seed: from its card.
        aliases: sorted; empty for most.
    """

    version: str
    sha256: str
    method: str
    train_set: str
    seed: int
    aliases: tuple[str, ...] = ()

    def described(self) -> dict[str, Any]:
        """As a decision file names it."""
        fields = asdict(self)
        fields.pop("aliases")
        return fields


@dataclass(frozen=True)
class Event:
    """A line of the history: one decision, and which aliases its challenger holds now."""

    number: int
    verdict: str
    challenger: dict[str, Any] | None
    champion: dict[str, Any] | None
    reason: str
    aliases: tuple[str, ...]


@contextmanager
def promotion_lock(workspace: Workspace, settings: Settings) -> Iterator[None]:
    """Only one promotion at a time: MLflow's aliases have no compare-and-swap.

    A lock file for this workspace; where the store is shared, also a turn at the registry (`flawline.track.turns`).
    Held for moments: what takes long is measured before, and the champion is read again inside.

    Raises:
        FlawlineError: another promotion holds it for longer than a minute.
    """
    from filelock import FileLock, Timeout

    workspace.state.mkdir(parents=True, exist_ok=True)
    lock = FileLock(workspace.state / "promotion.lock", timeout=_WAIT_SECONDS)
    try:
        lock.acquire()
    except Timeout as error:
        raise FlawlineError(
            f"another promotion holds {workspace.state / 'promotion.lock'}", "wait for it to end"
        ) from error
    try:
        store = open_store(workspace, settings)
        if store.uri == embedded_uri(workspace):
            yield
        else:
            with turn(store, settings.track.model, _WAIT_SECONDS):
                yield
    finally:
        lock.release()


def versions(workspace: Workspace, settings: Settings) -> list[Version]:
    """All registered prompt sets, oldest first."""
    return _versions(open_store(workspace, settings), settings.track.model)


def by_alias(workspace: Workspace, settings: Settings, alias: str) -> Version | None:
    """The version that holds an alias, or None."""
    return next((v for v in versions(workspace, settings) if alias in v.aliases), None)


def register(workspace: Workspace, settings: Settings, folder: Path, run_id: str) -> Version:
    """The version of a prompt set; made only if this very prompt set (by sha256) has none yet.

    Args:
        workspace: where the registry is.
        settings: names the model.
        folder: the prompt set.
        run_id: the MLflow run that shows it; the model is kept there.
    """
    from flawline.track.model import log_model

    store, name, sha256 = open_store(workspace, settings), settings.track.model, sha256_folder(folder)
    found = next((v for v in _versions(store, name) if v.sha256 == sha256), None)
    if found:
        return found
    card = read_json(folder / "card.json")
    facts = {SHA: sha256, "method": card["method"], "train_set": card["train_set"], "seed": str(card["seed"])}
    if not store.client.search_registered_models(filter_string=f"name = '{name}'"):
        store.client.create_registered_model(
            name, description="Prompt sets for defect detection, by flawline."
        )
    uri, model_id = log_model(store, folder, run_id, sha256)
    made = store.client.create_model_version(name, uri, run_id=run_id, tags=facts, model_id=model_id)
    return Version(str(made.version), sha256, card["method"], card["train_set"], int(card["seed"]))


def set_challenger(workspace: Workspace, settings: Settings, version: Version) -> None:
    """Give the alias `challenger`; the champion and the previous champion are none."""
    client = open_store(workspace, settings).client
    client.set_registered_model_alias(settings.track.model, CHALLENGER, version.version)


def promote(workspace: Workspace, settings: Settings, version: Version) -> None:
    """Make `version` champion and the old champion previous champion. Call with `promotion_lock` held.

    `champion` moves last, so that a kill in between is mended by calling it again.
    """
    client, name = open_store(workspace, settings).client, settings.track.model
    now = {alias: v.version for v in versions(workspace, settings) for alias in v.aliases}
    if now.get(CHAMPION) == version.version:
        return
    if now.get(CHALLENGER) == version.version:
        client.delete_registered_model_alias(name, CHALLENGER)
    if CHAMPION in now:
        client.set_registered_model_alias(name, PREVIOUS, now[CHAMPION])
    client.set_registered_model_alias(name, CHAMPION, version.version)


def rollback(workspace: Workspace, settings: Settings, to: str | None = None) -> tuple[Version, Version]:
    """Make an earlier champion champion again, verified before, and write that down in decisions/.

    Without `to` champion and previous champion swap: a second rollback takes the first one back.

    Args:
        workspace: where the registry is.
        settings: names the model.
        to: a version that was champion once, however long ago.

    Returns:
        The new champion and the one taken back.

    Raises:
        FlawlineError: there is no previous champion, no such version, it never served, or its files are damaged.
    """
    from flawline.track.resolve import keep, local_folder

    with promotion_lock(workspace, settings):
        known = versions(workspace, settings)
        holders = {alias: v for v in known for alias in v.aliases}
        if CHAMPION not in holders or (to is None and PREVIOUS not in holders):
            raise FlawlineError("there is no previous champion to go back to", "see flawline history")
        back, taken = _target(workspace, known, to) or holders[PREVIOUS], holders[CHAMPION]
        if back.version == taken.version:
            raise FlawlineError(f"version {back.version} is champion already", "see flawline history")
        local_folder(workspace, settings, back)
        promote(workspace, settings, back)
        reason = f"version {taken.version} taken back by hand; version {back.version} serves again"
        decisions.append(
            workspace, decisions.by_hand("rollback", back.described(), taken.described(), reason)
        )
        keep(workspace, settings, back)
    return back, taken


def _target(workspace: Workspace, known: list[Version], to: str | None) -> Version | None:
    if to is None:
        return None
    found = next((v for v in known if to == v.version), None)
    if found is None:
        there = ", ".join(v.version for v in known) or "none"
        raise FlawlineError(f"no version '{to}' in the registry", f"registered: {there}")
    if not decisions.has_served(workspace, found.sha256):
        raise FlawlineError(
            f"version {to} never served here, so this would be no rollback", f"python -m flows.promote {to}"
        )
    return found


def history(workspace: Workspace, settings: Settings) -> list[Event]:
    """All decisions, oldest first, with the aliases their challengers hold now."""
    holders = {v.sha256: v.aliases for v in versions(workspace, settings)}
    return [
        Event(
            number=row["number"],
            verdict=row["verdict"],
            challenger=row.get("challenger"),
            champion=row.get("champion"),
            reason=row.get("reason", ""),
            aliases=holders.get(decisions.sha_of(row.get("challenger")) or "", ()),
        )
        for row in decisions.history(workspace)
    ]


def resolve(
    workspace: Workspace, settings: Settings, ref: str, warn: Callable[[str], None] | None = None
) -> Path:
    """The local folder of a prompt set (see `flawline.track.resolve`).

    Args:
        workspace: where the registry is.
        settings: names the model.
        ref: an alias, a version number, or a folder.
        warn: is told in a line where the last good champion stands in for the present one.
    """
    from flawline.track.resolve import resolve as find

    return find(workspace, settings, ref, warn)


def _versions(store: Store, name: str) -> list[Version]:
    client = store.client
    models = client.search_registered_models(filter_string=f"name = '{name}'")
    if not models:
        return []
    holders: dict[str, list[str]] = {}
    for alias, version in models[0].aliases.items():
        holders.setdefault(str(version), []).append(alias)
    rows = []
    for found in client.search_model_versions(f"name = '{name}'", max_results=10_000):
        tags = found.tags
        if SHA in tags:  # others were registered by hand and are not ours to judge
            aliases = tuple(sorted(holders.get(str(found.version), [])))
            seed = int(tags["seed"])
            rows.append(
                Version(str(found.version), tags[SHA], tags["method"], tags["train_set"], seed, aliases)
            )
    return sorted(rows, key=lambda row: int(row.version))
