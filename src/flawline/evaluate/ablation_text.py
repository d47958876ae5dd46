"""An ablation as people read it: a markdown table for docs/methods.md, and the table's CSV text."""

import json
from collections.abc import Mapping
from typing import Any

import pandas as pd

from flawline.evaluate.tables import MEAN
from flawline.settings import Variant
from flawline.variants import DEFAULT

_SHOWN = {"image_auroc": "image AUROC", "pixel_auroc": "pixel AUROC"}
_ABSENT = "–"


def csv_text(table: pd.DataFrame) -> str:
    """The table of `ablation_table` as CSV: six decimals, empty where there is no number, Unix line ends."""
    return table.to_csv(index=False, float_format="%.6f", lineterminator="\n")


def markdown(table: pd.DataFrame, variants: Mapping[str, Variant | None], confidence: float) -> str:
    """Variant × test set, macro image and pixel AUROC: mean ± standard deviation over seeds, and the difference.

    A difference is bold where its interval leaves out 0. One table a training set; below it, why each variant is
    there. Variants that the table lacks are named as not run.

    Args:
        table: from `ablation_table`.
        variants: all variants in order, `default` (None) among them.
        confidence: of the intervals in the table.
    """
    [method] = set(table["method"])
    there = [name for name in variants if name in set(table["variant"])]
    lines = [f"#### Ablation of {method}", ""]
    for train in sorted(set(table["train_set"])):
        part = table[table["train_set"] == train]
        seeds = sorted(int(seed) for seed in set(part["seed"]) - {MEAN})
        lines += [_caption(train, seeds, confidence), "", *_rows(part, there, variants), ""]
    lines += [f"* `{name}`: {one.why}" for name in there if (one := variants[name]) is not None]
    absent = [f"`{name}`" for name in variants if name not in there]
    if absent:
        lines += ["", f"Not run: {', '.join(absent)}."]
    return "\n".join(lines) + "\n"


def change_text(change: Mapping[str, Any]) -> str:
    """The changed keys on one line, as params.yaml has them: `guidance: none, synth.object_mask: whole`."""
    return ", ".join(f"{key}: {_value(value)}" for key, value in change.items())


def _value(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _caption(train: str, seeds: list[int], confidence: float) -> str:
    many = len(seeds) > 1
    told = f"seeds {', '.join(map(str, seeds))}" if many else f"seed {seeds[0]}"
    spread = "Mean over seeds ± standard deviation" if many else "One seed, so no spread"
    return (
        f"Tuned on {train}, {told}; macro AUROC. {spread}; in brackets the difference to `{DEFAULT}` with the same "
        f"seed{'s' if many else ''}, bold where its {confidence:.0%} interval (paired bootstrap over the test images) "
        "leaves out 0."
    )


def _rows(part: pd.DataFrame, there: list[str], variants: Mapping[str, Variant | None]) -> list[str]:
    tests = sorted(set(part["test_set"]) - {MEAN})
    shown = [(test, metric) for test in ([*tests, MEAN] if len(tests) > 1 else tests) for metric in _SHOWN]
    head = ["variant", "part", "change", *(f"{test} {_SHOWN[metric]}" for test, metric in shown)]
    lines = [head, ["---"] * len(head)]
    means = part[part["seed"] == MEAN].set_index(["variant", "test_set", "metric"])
    for name in there:
        one = variants[name]
        told = [one.part, f"`{change_text(one.change)}`"] if one else ["", ""]
        cells = [_cell(means, (name, *place)) for place in shown]
        lines.append([f"`{name}`", *(text.replace("|", "\\|") for text in told), *cells])
    return ["| " + " | ".join(line) + " |" for line in lines]


def _cell(means: pd.DataFrame, place: tuple[str, str, str]) -> str:
    if place not in means.index:
        return _ABSENT
    row = means.loc[[place]].iloc[0]
    text = f"{row['value']:.3f}"
    if not pd.isna(row["spread"]):
        text += f" ± {row['spread']:.3f}"
    if place[0] == DEFAULT or pd.isna(row["difference"]):
        return text
    difference = f"{row['difference']:+.3f}".replace("-", "−")
    sure = row["ci_low"] > 0 or row["ci_high"] < 0  # False where there is no interval
    return f"{text} ({f'**{difference}**' if sure else difference})"
