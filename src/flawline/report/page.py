"""The page itself: everything gathered, handed to one template."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from flawline.errors import FlawlineError
from flawline.files import read_json
from flawline.report.curves import pro_plots, roc_plots, training_plots
from flawline.report.gather import Results, gather
from flawline.report.pictures import Budget, inline_jpeg
from flawline.report.tables import NAMES, details, heat_maps, results_tables, tiles
from flawline.settings import Settings
from flawline.workspace import Workspace

HERE = Path(__file__).parent
DEMONSTRATION = "flawline-tiny"
KINDS = {
    "best": "Clearest finds",
    "typical": "Typical finds",
    "worst": "Hardest cases",
}
OLDER_DECISIONS = 10


@dataclass(frozen=True)
class Strip:
    """One overlay picture with its words."""

    source: Markup
    caption: str
    alt: str


def render(workspace: Workspace, settings: Settings) -> str:
    """The whole report as one HTML text that needs no other file and no network."""
    results, budget = gather(workspace, settings), Budget()
    sheets = {
        train: source
        for train in settings.data.train
        if (source := budget.take(inline_jpeg(workspace.synth(train) / "contact_sheet.png", 1400)))
    }
    training, training_left_out = training_plots(results)
    plots = {"roc": roc_plots(results), "pro": pro_plots(results), "training": training}
    budget.left -= sum(picture.size for group in plots.values() for picture in group)
    environment = Environment(
        loader=FileSystemLoader(HERE, encoding="utf-8"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("page.html").render(
        style=Markup((HERE / "page.css").read_text(encoding="utf-8")),
        results=results,
        settings=settings,
        backbone=_backbone(results),
        demonstration=DEMONSTRATION,
        tiles=tiles(results),
        names=NAMES,
        tables=results_tables(results),
        heat_maps=heat_maps(results),
        details=details(results),
        data_rows=_data_rows(results),
        methods=_methods(results),
        plots=plots,
        training_left_out=training_left_out,
        sheets=sheets,
        overlays=_overlays(workspace, results, budget),
        kinds=KINDS,
        budget=budget,
        older_decisions=OLDER_DECISIONS,
        confidence=f"{100 * settings.evaluate.confidence:g} %",
    )


def _backbone(results: Results) -> dict[str, Any]:
    """The backbone as the first prompt card tells it; {} where no card is there."""
    for card in results.cards.values():
        if isinstance(card.get("backbone"), dict):
            return dict(card["backbone"])
    return {}


def _methods(results: Results) -> list[dict[str, Any]]:
    """For each method what its cards say: fidelity, learned parameters, fixed threshold rule."""
    rows = []
    for method in results.settings.tune.methods:
        cards = [card for cell, card in results.cards.items() if cell.method == method]
        card = cards[0] if cards else {}
        learned = card.get("learned") if isinstance(card.get("learned"), dict) else {}
        rows.append(
            {
                "name": method,
                "fidelity": str(card.get("fidelity") or "–"),
                "parameters": int((learned or {}).get("parameters", 0)),
                "sets": len(cards),
                "baseline": method == results.settings.gate.baseline,
            }
        )
    return rows


def _data_rows(results: Results) -> list[dict[str, Any]]:
    """Counts of each data set, from the checks' summary."""
    rows = []
    counts = results.checks.get("counts", {})
    data = results.settings.data
    for name in data.all:
        categories = counts.get(name, {})
        defects = {
            kind: sum(int(found.get(kind, 0)) for found in categories.values())
            for kind in sorted({kind for found in categories.values() for kind in found})
            if kind not in ("good_train", "good_test")
        }
        roles = [word for word, names in (("trains", data.train), ("tests", data.test)) if name in names]
        rows.append(
            {
                "name": name,
                "role": " and ".join(roles),
                "categories": sorted(categories),
                "good_train": sum(int(found.get("good_train", 0)) for found in categories.values()),
                "good_test": sum(int(found.get("good_test", 0)) for found in categories.values()),
                "defects": defects,
                "defective": sum(defects.values()),
            }
        )
    return rows


def _overlays(
    workspace: Workspace, results: Results, budget: Budget
) -> list[tuple[str, dict[str, list[Strip]]]]:
    """For each test set and kind the overlay strips of the shown prompt set that fit the page."""
    if results.chosen is None:
        return []
    found = []
    for test in results.settings.data.test:
        folder = workspace.evaluation(results.chosen, test) / "overlays"
        if not (folder / "index.json").is_file():
            continue
        kinds: dict[str, list[Strip]] = {kind: [] for kind in KINDS}
        for note in read_json(folder / "index.json"):
            if not isinstance(note, dict) or note.get("case") not in KINDS or "file" not in note:
                raise FlawlineError(f"{folder / 'index.json'} is not a list of overlays", "evaluate again")
            source = budget.take(inline_jpeg(folder / Path(note["file"]).name, 640))
            if source is not None:
                what = "good part" if note["label"] == 0 else note["defect"]
                caption = f"{note['category']} · {what} · score {note['score']:.3f}"
                alt = f"{note['image']}: the image, the image with its true defect outlined, the anomaly map"
                kinds[note["case"]].append(Strip(source, caption, alt))
        if any(kinds.values()):
            found.append((test, {kind: strips for kind, strips in kinds.items() if strips}))
    return found
