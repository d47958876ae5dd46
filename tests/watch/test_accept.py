"""A person decides: what was a cluster becomes labelled images, or is not asked again; and the page says so."""

import re
from collections.abc import Callable
from pathlib import Path

import pytest
import spots

from flawline.data.vocabulary import load_vocabulary
from flawline.errors import FlawlineError
from flawline.settings import Settings
from flawline.watch import accept as accepting
from flawline.watch import intake
from flawline.watch.accept import accept
from flawline.watch.incoming import open_source
from flawline.watch.look import look
from flawline.watch.state import State
from flawline.workspace import Workspace


@pytest.fixture(autouse=True)
def _light(monkeypatch: pytest.MonkeyPatch) -> None:
    """Checks and DVC are tested with the intake."""
    monkeypatch.setattr(intake, "_validate", lambda *_: None)
    monkeypatch.setattr("flawline.data.versioning.track_data", lambda workspace: True)


@pytest.fixture
def opened(plant: Workspace, settings: Settings, detector: spots.Spots, arrive: Callable) -> Workspace:
    """A plant with an open item of six burns, whose source was emptied since."""
    paths = arrive("burn", 6) + arrive("good", 3)
    once(plant, settings, detector)
    for path in paths:
        path.unlink()
    return plant


def once(plant: Workspace, settings: Settings, detector: spots.Spots):
    return look(plant, settings, detector, "a" * 64, open_source(plant, "incoming"))  # type: ignore[arg-type]


def page(plant: Workspace, name: str) -> str:
    return (plant.root / "reports" / "review" / name).read_text()


def test_an_accepted_item_is_a_labelled_type_and_known_from_then_on(
    opened: Workspace, settings: Settings, detector: spots.Spots, arrive: Callable
) -> None:
    added = accept(opened, settings, 1, "gear", name="burn", words="charred spot", dataset="plates")
    folder = opened.data / "plates" / "gear" / "test" / "burn"
    assert added.images == 6 and sorted(p.name for p in folder.iterdir()) == [
        f"burn-{k:03d}.png" for k in range(6)
    ]
    assert load_vocabulary(opened.vocabulary).defect_words("plates", "burn") == "charred spot"
    with State(opened.state / "watch") as state:
        [item] = state.items()
    assert (item.status, item.name, item.place) == ("accepted", "burn", "plates/gear")
    assert "It is <code>burn</code> (“charred spot”) in plates/gear." in page(opened, "item-1.html")
    assert "accepted" in page(opened, "index.html")
    arrive("burn", 10, start=50)
    found = once(opened, settings, detector)
    assert found.opened == [] and found.counts.get("known", 0) >= 7
    with pytest.raises(FlawlineError, match="review item 1 was accepted already — open: none"):
        accept(opened, settings, 1, "gear")


def test_without_a_name_the_suggestion_is_taken(opened: Workspace, settings: Settings) -> None:
    with State(opened.state / "watch") as state:
        [item] = state.items()
    added = accept(opened, settings, 1, "gear")
    assert (added.place.defect, added.words) == (item.name, item.words) and added.place.defect != "scratch"


def test_another_name_does_not_take_the_suggested_words(opened: Workspace, settings: Settings) -> None:
    assert accept(opened, settings, 1, "gear", name="hot_spot").words == "hot spot"


def test_a_failed_acceptance_leaves_the_item_open_and_a_killed_one_goes_on(
    opened: Workspace, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(FlawlineError, match="no category 'nut'"):
        accept(opened, settings, 1, "nut")
    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):

        def killed(*_: object, **__: object) -> None:
            raise KeyboardInterrupt

        patched.setattr(State, "decide", killed)
        accept(opened, settings, 1, "gear", name="burn")
    again = accept(opened, settings, 1, "gear", name="burn")
    assert (again.images, again.there, again.new_type) == (0, 6, True)
    with pytest.raises(FlawlineError, match="there is no review item 7"):
        accept(opened, settings, 7, "gear")
    assert accepting.ACCEPTED == "accepted"


def test_the_page_is_whole_tells_what_to_type_and_trusts_no_name(
    plant: Workspace, settings: Settings, detector: spots.Spots, tmp_path: Path
) -> None:
    folder = plant.root / "incoming"
    for number in range(5):
        spots.save(folder / f"<img src=x>&{number}.png", f"in {number}", "burn")
    once(plant, settings, detector)
    text = page(plant, "item-1.html")
    assert "<img src=x>" not in text and "&lt;img src=x&gt;&amp;0.png" in text
    assert not re.search(r"(?:src|href)=\"(?!data:image/|index\.html|item-)", text)
    assert text.count("data:image/jpeg") == 10 and "http://" not in text and "https://" not in text
    assert "flawline watch accept 1 --category gear --dataset plates" in text
    assert "flawline watch reject 1" in text and "default-src 'none'" in text
    assert "<script" not in text
