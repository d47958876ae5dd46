"""The page itself: everything gathered, handed to its templates."""

import base64
import hashlib
from collections.abc import Iterable
from itertools import groupby
from operator import attrgetter
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from flawline.report import arrivals, kinds, worth
from flawline.report.curves import pro_plots, roc_plots, training_plots
from flawline.report.gather import Results, gather
from flawline.report.heat import heat_maps, origins
from flawline.report.judged import judged_rows
from flawline.report.mistakes import mistakes
from flawline.report.pictures import Budget, inline_jpeg
from flawline.report.reasons import absences
from flawline.report.strips import KINDS, strips
from flawline.report.tables import columns, details, results_tables, tiles
from flawline.report.values import NAMES
from flawline.report.verdicts import comparisons
from flawline.settings import Settings
from flawline.workspace import Workspace

HERE = Path(__file__).parent
DEMONSTRATION = "flawline-tiny"
OLDER_DECISIONS = 10


def render(workspace: Workspace, settings: Settings) -> str:
    """The whole report as one HTML text that needs no other file and no network.

    Only the section on time and memory comes from a script beside the page, see `flawline.report.timing`; the page's
    policy lets it load that and nothing else.
    """
    results, budget = gather(workspace, settings), Budget()
    # In the order of their worth: what no longer fits the page is left out, training curves first.
    plots = {"roc": roc_plots(results), "pro": pro_plots(results)}
    budget.left -= sum(picture.size for group in plots.values() for picture in group)
    overlays = strips(workspace, results, budget)
    refused = budget.refused
    sheets = {
        train: source
        for train in settings.data.train
        if (source := budget.take(inline_jpeg(workspace.synth(train) / "contact_sheet.png", 1400)))
    }
    training, training_left_out = training_plots(results, budget)
    script = (HERE / "page_js.txt").read_text(encoding="utf-8")
    first, more = columns(results)
    cells, cells_left_out = origins(results)
    environment = Environment(
        loader=FileSystemLoader(HERE, encoding="utf-8"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["groupby_in_order"] = _in_order
    return environment.get_template("page.html").render(
        style=Markup((HERE / "page.css").read_text(encoding="utf-8")),
        script=Markup(script),
        script_hash=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode("ascii"),
        results=results,
        settings=settings,
        backbone=_backbone(results),
        demonstration=DEMONSTRATION,
        tiles=tiles(results),
        names=NAMES,
        judged_rows=judged_rows,
        columns=(first, more),
        tables=results_tables(results, first),
        more_tables=results_tables(results, more),
        details=details(results),
        absences=absences(results),
        heat_maps=heat_maps(results),
        origins=cells,
        origins_left_out=cells_left_out,
        comparisons=comparisons(results),
        alpha=f"{1 - settings.evaluate.confidence:g}",
        split=kinds.split(results),
        kind_tables=kinds.kind_tables(results),
        found_metrics=kinds.FOUND,
        named_metrics=kinds.NAMED,
        confusions=kinds.confusions(results, at_threshold=True),
        named_confusions=kinds.confusions(results, at_threshold=False),
        ablations=worth.ablations(results),
        ablation_metrics=worth.METRICS,
        data_rows=_data_rows(results),
        methods=_methods(results),
        plots=plots,
        training=training,
        training_left_out=training_left_out,
        sheets=sheets,
        overlays=overlays,
        overlays_left_out=refused,
        kinds=KINDS,
        mistakes=mistakes(workspace, results),
        older_decisions=OLDER_DECISIONS,
        arrivals=arrivals.arrivals(results),
        arrivals_metrics=arrivals.AFTER,
        confidence=f"{100 * settings.evaluate.confidence:g} %",
    )


def _in_order(rows: Iterable[Any], attribute: str = "group") -> list[tuple[Any, list[Any]]]:
    """Neighbours with the same attribute together; Jinja's own `groupby` would sort them."""
    return [(key, list(group)) for key, group in groupby(rows, attrgetter(attribute))]


def _backbone(results: Results) -> dict[str, Any]:
    """The backbone as the first prompt card tells it; {} where no card is there."""
    for card in results.cards.values():
        if isinstance(card.get("backbone"), dict):
            return dict(card["backbone"])
    return {}


def _methods(results: Results) -> list[dict[str, Any]]:
    """For each method what its cards say: fidelity, learned parameters, good images it looks at."""
    rows = []
    for method in results.methods:
        cards = [card for cell, card in results.cards.items() if cell.method == method]
        card = cards[0] if cards else {}
        learned = card.get("learned") if isinstance(card.get("learned"), dict) else {}
        rows.append(
            {
                "name": method,
                "fidelity": str(card.get("fidelity") or "–"),
                "parameters": int((learned or {}).get("parameters", 0)),
                "shots": results.shots.get(method, 0),
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
