"""Review items: a large and stable cluster of unexplained crops is put before a person, once."""

from collections import Counter
from typing import TYPE_CHECKING

import numpy as np

from flawline.data.vocabulary import load_vocabulary
from flawline.errors import FlawlineError
from flawline.settings import Settings
from flawline.watch.bank import Bank
from flawline.watch.cluster import clusters
from flawline.watch.state import OPEN, REJECTED, Item, State
from flawline.watch.words import WordList, all_words, suggest
from flawline.workspace import Workspace

if TYPE_CHECKING:
    from flawline.detector import Detector


def update_items(
    workspace: Workspace,
    settings: Settings,
    detector: "Detector",
    bank: Bank,
    state: State,
    fingerprint: str,
) -> tuple[list[int], list[int]]:
    """Cluster all unexplained crops; open items for new clusters, let open ones grow.

    A crop belongs to at most one item and stays there. A cluster with a crop of an item is that item's: its other
    crops join it while it is open, and are left alone where it was decided. Crops that the bank explains by now, for
    their type was labelled or rejected meanwhile, take no part.

    Returns:
        The numbers of items opened, and of items that grew.
    """
    watch = settings.watch
    crops = [
        crop
        for crop in state.crops(fingerprint)
        if crop.item is not None or bank.explain(crop.vector) is None
    ]
    found = clusters(np.stack([crop.vector for crop in crops]), watch.distance, watch.least) if crops else []
    status = {item.number: item.status for item in state.items()}
    opened: list[int] = []
    grown: list[int] = []
    words: WordList | None = None
    for cluster in found:
        members = [crops[row] for row in cluster.members]
        owners = Counter(crop.item for crop in members if crop.item is not None)
        free = [crop for crop in members if crop.item is None]
        if owners:
            owner = min(owners, key=lambda number: (-owners[number], number))
            if free and status.get(owner) == OPEN:
                state.put([crop.sha256 for crop in free], owner)
                grown.append(owner)
            continue
        if cluster.stability < watch.stability:
            continue
        words = words or WordList(detector.method.backbone, all_words(load_vocabulary(workspace.vocabulary)))
        near = words.nearest(np.stack([crop.vector for crop in free]), bank.good_centre)
        name, said = suggest(near, _taken(bank, state))
        number = state.add_item(name, said, cluster.stability)
        status[number] = OPEN
        state.put([crop.sha256 for crop in free], number)
        opened.append(number)
    return opened, sorted(set(grown))


def open_item(state: State, number: int) -> Item:
    """An item that still waits for a person.

    Raises:
        FlawlineError: there is none of this number, or it was decided.
    """
    items = {item.number: item for item in state.items()}
    waiting = ", ".join(str(n) for n, item in items.items() if item.status == OPEN) or "none"
    if number not in items:
        raise FlawlineError(f"there is no review item {number}", f"open: {waiting}")
    if items[number].status != OPEN:
        raise FlawlineError(f"review item {number} was {items[number].status} already", f"open: {waiting}")
    return items[number]


def reject(state: State, number: int) -> Item:
    """Close an item for good: crops like its own are explained by it from now on."""
    item = open_item(state, number)
    with state.writing():
        state.decide(number, REJECTED, item.name, item.words, "")
    return item


def _taken(bank: Bank, state: State) -> set[str]:
    """Folder names of known types, and of other items that are not rejected."""
    known = {group.name.rpartition("/")[2] for group in bank.groups if "/" in group.name}
    return known | {item.name for item in state.items() if item.status != REJECTED}
