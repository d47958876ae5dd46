"""The overlay pictures that the evaluation left, for the prompts that the page shows."""

from dataclasses import dataclass
from pathlib import Path

from markupsafe import Markup

from flawline.errors import FlawlineError
from flawline.files import read_json
from flawline.report.gather import Results
from flawline.report.pictures import Budget, inline_jpeg
from flawline.workspace import Workspace

#: kinds in the page's order; the evaluation's `worst` are two kinds here, by what the image truly is
KINDS = {
    "best": "Clearest finds",
    "typical": "Typical finds",
    "missed": "Worst cases: defects that look like good parts",
    "alarm": "Worst cases: good parts that look defective",
}
_CASES = ("best", "typical", "worst")


@dataclass(frozen=True)
class Strip:
    """One overlay picture with its words."""

    source: Markup
    caption: str
    alt: str


def strips(workspace: Workspace, results: Results, budget: Budget) -> dict[str, dict[str, list[Strip]]]:
    """For each test set and kind the overlay strips of the shown prompt set that fit the page.

    Raises:
        FlawlineError: a list of overlays is broken.
    """
    found: dict[str, dict[str, list[Strip]]] = {}
    for test in results.settings.data.test if results.chosen else []:
        assert results.chosen is not None
        folder = workspace.evaluation(results.chosen, test) / "overlays"
        if not (folder / "index.json").is_file():
            continue
        kinds: dict[str, list[Strip]] = {kind: [] for kind in KINDS}
        for note in read_json(folder / "index.json"):
            if not isinstance(note, dict) or note.get("case") not in _CASES or "file" not in note:
                raise FlawlineError(f"{folder / 'index.json'} is not a list of overlays", "evaluate again")
            source = budget.take(inline_jpeg(folder / Path(note["file"]).name, 640))
            if source is not None:
                good = note["label"] == 0
                what = "good part" if good else note["defect"]
                caption = f"{note['category']} · {what} · score {note['score']:.3f}"
                alt = f"{note['image']}: the image, the image with its true defect outlined, the anomaly map"
                kind = note["case"] if note["case"] != "worst" else "alarm" if good else "missed"
                kinds[kind].append(Strip(source, caption, alt))
        if any(kinds.values()):
            found[test] = {kind: shown for kind, shown in kinds.items() if shown}
    return found
