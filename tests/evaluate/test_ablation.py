"""The ablation's table: its numbers by hand, its intervals by a slow loop, and what is missing told."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from sklearn.metrics import roc_auc_score

from flawline.determinism import derived_seed
from flawline.errors import FlawlineError
from flawline.evaluate.ablation import COLUMNS, Evaluated, ablation_table
from flawline.evaluate.ablation_text import change_text, csv_text, markdown
from flawline.evaluate.bootstrap import resample, strata_of
from flawline.evaluate.cell import evaluate_cell, write_cell
from flawline.files import read_parquet
from flawline.settings import EvaluateSettings, Variant

from .conftest import make

SETTINGS = EvaluateSettings(bootstrap=200, bins=64, overlays=0)
VARIANTS = {
    "default": None,
    "weak": Variant(part="contrast", why="hardly sees defects", change={"guidance": "none", "a|b": None}),
    "same": Variant(part="nothing", why="changes nothing", change={"epochs": 15}),
    "later": Variant(part="nothing", why="was not run", change={"epochs": 16}),
}


def evaluated(root: Path, variant: str, seed: int, test: str, contrast: float) -> Evaluated:
    """A real evaluation folder; the noise depends on seed and test set alone, so variants are paired."""
    one = make(seed=derived_seed(seed, test), side=16, per_type=6, contrast=contrast)
    folder = root / variant / str(seed) / test
    identity = {"method": "made", "seed": seed, "train_set": "castings", "test_set": test}
    result = evaluate_cell(one.index, one.scores, one.maps, one.masks, SETTINGS, identity)
    write_cell(result, folder, lambda path: Image.new("RGB", (16, 16)))
    return Evaluated(variant, "castings", seed, test, folder)


@pytest.fixture(scope="module")
def cells(tmp_path_factory: pytest.TempPathFactory) -> list[Evaluated]:
    root = tmp_path_factory.mktemp("cells")
    contrasts = {"default": 1.2, "weak": 0.2, "same": 1.2}
    return [
        evaluated(root, variant, seed, test, contrast)
        for variant, contrast in contrasts.items()
        for seed in (0, 1, 10)
        for test in ("boards", "fabrics")
    ]


@pytest.fixture(scope="module")
def table(cells: list[Evaluated]) -> pd.DataFrame:
    return ablation_table("made", cells, SETTINGS)


def auroc(folder: Path, weights: np.ndarray | None = None) -> float:
    """Macro image AUROC of a folder's scores, each image counted `weights` times."""
    scores = read_parquet(folder / "scores.parquet")
    weights = np.ones(len(scores)) if weights is None else weights
    parts = [
        roc_auc_score(part["label"], part["image_score"], sample_weight=weights[part.index])
        for _, part in scores.groupby("category")
    ]
    return float(np.mean(parts))


def row(table: pd.DataFrame, **where: str) -> pd.Series:
    for key, value in where.items():
        table = table[table[key] == value]
    assert len(table) == 1
    return table.iloc[0]


def test_values_and_paired_differences_are_those_of_the_scores(
    table: pd.DataFrame, cells: list[Evaluated]
) -> None:
    by = {(c.variant, c.seed, c.test_set): auroc(c.folder) for c in cells}
    differences = []
    for seed in (0, 1, 10):
        found = row(table, variant="weak", test_set="boards", metric="image_auroc", seed=str(seed))
        differences.append(by["weak", seed, "boards"] - by["default", seed, "boards"])
        assert found["value"] == pytest.approx(by["weak", seed, "boards"], abs=1e-6)
        assert found["difference"] == pytest.approx(differences[-1], abs=1e-6)
    mean = row(table, variant="weak", test_set="boards", metric="image_auroc", seed="mean")
    assert mean["difference"] == pytest.approx(np.mean(differences), abs=1e-6)
    assert mean["difference_spread"] == pytest.approx(np.std(differences, ddof=1), abs=1e-6)
    values = [by["weak", seed, "boards"] for seed in (0, 1, 10)]
    assert mean["spread"] == pytest.approx(np.std(values, ddof=1), abs=1e-6)
    over = row(table, variant="weak", test_set="mean", metric="image_auroc", seed="10")
    both = [by["weak", 10, test] for test in ("boards", "fabrics")]
    assert over["value"] == pytest.approx(np.mean(both), abs=1e-6)


def test_the_interval_is_that_of_a_plain_loop(cells: list[Evaluated]) -> None:
    """One resample at a time: draw images, measure both sides on them, average over the seeds."""
    few = SETTINGS.model_copy(update={"bootstrap": 100})
    folders = {(c.variant, c.seed): c.folder for c in cells if c.test_set == "boards"}
    scores = read_parquet(folders["default", 0] / "scores.parquet")
    draw = few.bootstrap, derived_seed("ablation", SETTINGS.seed, "boards", "image_auroc")
    weights = np.zeros((few.bootstrap, len(scores)))
    for _, part in scores.groupby("category"):
        strata = strata_of(part["category"].to_numpy(), part["label"].to_numpy())
        weights[:, part.index] = resample(strata, *draw)
    drawn = [
        np.mean([auroc(folders["weak", s], w) - auroc(folders["default", s], w) for s in (0, 1, 10)])
        for w in weights
    ]
    table = ablation_table("made", cells, few)
    found = row(table, variant="weak", test_set="boards", metric="image_auroc", seed="mean")
    low, high = np.quantile(drawn, [0.025, 0.975])
    assert (found["ci_low"], found["ci_high"]) == pytest.approx((low, high), abs=1e-9)


def test_what_changes_nothing_differs_by_nothing(table: pd.DataFrame) -> None:
    same = table[(table["variant"] == "same") & (table["seed"] == "mean")]
    assert (same["difference"] == 0).all() and (same["difference_spread"] == 0).all()
    paired = same[same["metric"].isin(["image_auroc", "pixel_auroc"])]
    assert (paired["ci_low"] == 0).all() and (paired["ci_high"] == 0).all() and len(paired) == 6
    assert same[~same.index.isin(paired.index)]["ci_low"].isna().all()


def test_rows_are_tidy_and_in_order(table: pd.DataFrame) -> None:
    assert tuple(table.columns) == COLUMNS
    assert list(dict.fromkeys(table["variant"])) == ["default", "weak", "same"]
    part = table[(table["variant"] == "weak") & (table["metric"] == "aupro")]
    assert list(dict.fromkeys(part["test_set"])) == ["boards", "fabrics", "mean"]
    assert list(part["seed"][:4]) == ["0", "1", "10", "mean"]
    assert not table.duplicated(["variant", "train_set", "test_set", "metric", "seed"]).any()


def test_the_order_of_images_does_not_matter(cells: list[Evaluated], tmp_path: Path) -> None:
    """A variant whose folder lists the images the other way round is still paired image by image."""
    from safetensors.numpy import load_file, save_file

    few = [c for c in cells if c.seed == 0 and c.test_set == "boards" and c.variant in ("default", "weak")]
    turned = tmp_path / "turned"
    turned.mkdir()
    read_parquet(few[1].folder / "scores.parquet").iloc[::-1].to_parquet(turned / "scores.parquet")
    held = load_file(few[1].folder / "histograms.safetensors")
    for name in ("normal", "anomalous"):
        held[name] = held[name][::-1].copy()
    save_file(held, turned / "histograms.safetensors")
    (turned / "metrics.csv").write_bytes((few[1].folder / "metrics.csv").read_bytes())
    there = ablation_table("made", [few[0], replace(few[1], folder=turned)], SETTINGS)
    pd.testing.assert_frame_equal(there, ablation_table("made", few, SETTINGS))


def test_a_variant_without_its_default_is_refused(cells: list[Evaluated]) -> None:
    lone = [c for c in cells if c.variant == "weak" or c.seed == 0]
    with pytest.raises(
        FlawlineError, match=r"'weak' has no default to be compared with \(castings, 1, boards\)"
    ):
        ablation_table("made", lone, SETTINGS)


def test_other_images_are_refused(cells: list[Evaluated], tmp_path: Path) -> None:
    few = [c for c in cells if c.seed == 0 and c.test_set == "boards" and c.variant in ("default", "weak")]
    other = evaluated(tmp_path, "weak", 0, "boards", 0.2)
    scores = read_parquet(other.folder / "scores.parquet")
    scores.assign(image=scores["image"].str.replace("bolts", "nails")).to_parquet(
        other.folder / "scores.parquet"
    )
    with pytest.raises(FlawlineError, match="not evaluated on the same images"):
        ablation_table("made", [few[0], other], SETTINGS)


def test_the_markdown_says_what_the_table_says(table: pd.DataFrame) -> None:
    text = markdown(table, VARIANTS, 0.95)
    lines = text.splitlines()
    [head] = [line for line in lines if line.startswith("| variant")]
    assert head.split(" | ")[3:5] == ["boards image AUROC", "boards pixel AUROC"]
    assert head.rstrip(" |").endswith("mean pixel AUROC")
    [default], [weak], [same] = (
        [line for line in lines if line.startswith(f"| `{name}`")] for name in ("default", "weak", "same")
    )
    assert {line.count("|") - line.count("\\|") for line in (head, default, weak, same)} == {10}
    assert "(" not in default
    one = row(table, variant="weak", test_set="boards", metric="image_auroc", seed="mean")
    assert one["ci_high"] < 0, "or the next line shows nothing"
    shown = f"{one['value']:.3f} ± {one['spread']:.3f} (**−{-one['difference']:.3f}**)"
    assert weak.split(" | ")[3] == shown and "`guidance: none, a\\|b: null`" in weak
    assert "**" not in same and "(+0.000)" in same
    assert "* `weak`: hardly sees defects" in lines and "seeds 0, 1, 10" in text
    assert lines[-1] == "Not run: `later`."


def test_one_seed_and_one_test_set_have_no_spread_and_no_mean(cells: list[Evaluated]) -> None:
    few = [c for c in cells if c.seed == 1 and c.test_set == "fabrics"]
    table = ablation_table("made", few, SETTINGS)
    text = markdown(table, {name: VARIANTS[name] for name in ("default", "weak", "same")}, 0.95)
    assert "±" not in text.split("\n\n", 2)[2] and "mean image" not in text and "seed 1;" in text
    assert "Not run" not in text


def test_the_csv_is_read_back(table: pd.DataFrame, tmp_path: Path) -> None:
    path = tmp_path / "table.csv"
    path.write_text(csv_text(table), encoding="utf-8")
    read = pd.read_csv(path, dtype={"seed": str})
    pd.testing.assert_frame_equal(read, table, atol=1e-6)
    assert b"\r" not in path.read_bytes()


def test_changes_are_written_as_in_params() -> None:
    change = {
        "guidance": "none",
        "features.paths.laa.radius": None,
        "synth.noises": {"gaussian": 1},
        "on": True,
    }
    assert change_text(change) == (
        'guidance: none, features.paths.laa.radius: null, synth.noises: {"gaussian": 1}, on: true'
    )
