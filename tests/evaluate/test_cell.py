import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from safetensors.numpy import load_file
from sklearn.metrics import roc_auc_score

from flawline.errors import FlawlineError
from flawline.evaluate import streaming, sweep
from flawline.evaluate.absent import NOWHERE
from flawline.evaluate.cell import evaluate_cell, evaluate_stream, write_cell
from flawline.evaluate.context import Context
from flawline.evaluate.measure import NO_DEFECTIVE, NO_MASK, ONE_SCORE
from flawline.evaluate.scoring import HeldScores
from flawline.evaluate.tables import COLUMNS, read_metrics
from flawline.files import sha256_folder
from flawline.settings import EvaluateSettings

SETTINGS = EvaluateSettings(bootstrap=100, bins=256, overlays=2)
IDENTITY = {"method": "words", "seed": 0, "train_set": "castings", "test_set": "demo"}


def evaluate(made, settings=SETTINGS, **changes):
    given = {"scores": made.scores, "maps": made.maps, "masks": made.masks, "index": made.index} | changes
    return evaluate_cell(given["index"], given["scores"], given["maps"], given["masks"], settings, IDENTITY)


def value(metrics, category, metric, defect="all", column="value"):
    rows = metrics[(metrics.category == category) & (metrics.metric == metric) & (metrics.defect == defect)]
    assert len(rows) == 1
    return rows.iloc[0][column]


def test_columns_and_rows(made):
    metrics = evaluate(made).metrics
    assert tuple(metrics.columns) == COLUMNS
    assert len(metrics) == 3 * 8 + 2 * 2 * 3
    assert set(metrics.loc[metrics.defect != "all", "metric"]) == {"image_auroc", "pixel_auroc", "aupro"}
    assert not metrics.isna().any().any()
    assert ((metrics.ci_low <= metrics.value) & (metrics.value <= metrics.ci_high)).mean() > 0.9
    assert metrics[["value", "ci_low", "ci_high"]].stack().between(0, 1).all()


def test_values_are_those_of_the_category_and_the_type(made):
    metrics = evaluate(made).metrics
    inside = (made.index.category == "bolts").to_numpy()
    expected = roc_auc_score(made.index.label[inside], made.scores[inside])
    assert value(metrics, "bolts", "image_auroc") == pytest.approx(expected)
    pair = inside & made.index.defect.isin(["good", "crack"]).to_numpy()
    expected = roc_auc_score(made.index.label[pair], made.scores[pair])
    assert value(metrics, "bolts", "image_auroc", "crack") == pytest.approx(expected)
    assert value(metrics, "bolts", "image_auroc", "crack", "n_anomalous") == 4
    both = [value(metrics, name, "aupro") for name in ("bolts", "tiles")]
    assert value(metrics, "mean", "aupro") == pytest.approx(np.mean(both))
    assert value(metrics, "mean", "aupro", column="n_normal") == 8


def test_values_do_not_depend_on_the_order_of_the_images(made):
    order = np.random.default_rng(0).permutation(len(made.index))
    first = evaluate(made)
    second = evaluate(
        made,
        index=made.index.iloc[order].reset_index(drop=True),
        scores=made.scores[order],
        maps=made.maps[order],
        masks=[made.masks[i] for i in order],
    )
    keys = ["category", "defect", "metric"]
    joined = first.metrics.merge(second.metrics, on=keys, suffixes=("", "_mixed"))
    assert len(joined) == len(first.metrics)
    assert joined["value"].to_numpy() == pytest.approx(joined["value_mixed"].to_numpy(), abs=1e-12)
    picked = [[r.scores.iloc[c.row]["image"] for c in r.cases] for r in (first, second)]
    assert picked[0] == picked[1]


def test_without_masks_pixel_metrics_are_absent_and_the_reason_is_kept(made):
    result = evaluate(made, masks=[None] * len(made.masks))
    assert set(result.metrics.metric) == {"image_auroc", "image_ap", "image_f1_max"}
    pixel = {"pixel_auroc", "pixel_ap", "pixel_f1_max", "aupro", "aupro_200"}
    whole = [row for row in result.absent["absent"] if row["defect"] == "all"]
    assert [(row["category"], row["reason"]) for row in whole] == [
        ("bolts", NO_MASK),
        ("tiles", NO_MASK),
        ("mean", NOWHERE),
    ]
    assert all(set(row["metrics"]) == pixel for row in whole)
    assert [row["images"] for row in result.absent["left_out"]] == [8, 8]


def test_an_anomalous_image_without_mask_leaves_the_pixel_metrics(made):
    masks, bolts = list(made.masks), np.flatnonzero(made.index.category == "bolts")
    masks[bolts[0]] = None
    masks[bolts[1]] = np.zeros_like(masks[bolts[1]])
    result = evaluate(made, masks=masks)
    assert value(result.metrics, "bolts", "pixel_auroc", column="n_anomalous") == 6
    assert value(result.metrics, "bolts", "image_auroc", column="n_anomalous") == 8
    assert not result.histograms.used[bolts[:2]].any()
    keep = np.setdiff1d(bolts, bolts[:2])
    truth = np.concatenate([np.zeros(24 * 24, bool) if masks[i] is None else masks[i].ravel() for i in keep])
    expected = roc_auc_score(truth, made.maps[keep].ravel())
    assert value(result.metrics, "bolts", "pixel_auroc") == pytest.approx(expected)


def test_one_class_only_gives_no_row_and_no_zero(made):
    good = (made.index.defect == "good").to_numpy()
    result = evaluate(
        made,
        index=made.index[good].reset_index(drop=True),
        scores=made.scores[good],
        maps=made.maps[good],
        masks=[None] * int(good.sum()),
    )
    assert result.metrics.empty and tuple(result.metrics.columns) == COLUMNS
    assert result.curves["image_roc"] == {} and result.curves["pro"] == {}
    reasons = {row["reason"] for row in result.absent["absent"]}
    assert reasons == {NO_DEFECTIVE, NOWHERE} and result.absent["left_out"] == []


def test_a_whole_set_leaves_no_reason(made):
    assert evaluate(made).absent == {"absent": [], "left_out": [], "rough": []}


def test_equal_scores_lack_the_papers_aupro_alone(made):
    result = evaluate(made, maps=np.ones_like(made.maps))
    assert value(result.metrics, "bolts", "pixel_auroc") == 0.5
    assert "aupro_200" not in set(result.metrics.metric)
    assert {tuple(row["metrics"]) for row in result.absent["absent"]} == {("aupro_200",)}
    assert result.absent["absent"][0]["reason"] == ONE_SCORE


def test_a_swept_set_gives_what_one_batch_gives(made, monkeypatch):
    """More images than the sample, several batches, pixels in bins: the same table, within 1e-4."""
    once = evaluate(made)
    monkeypatch.setattr(sweep, "_SAMPLE_IMAGES", 0)  # 16 of the 24 images place the edges
    monkeypatch.setattr(streaming.PixelAccumulator.__init__, "__defaults__", (streaming.LIMIT, 0))
    score = HeldScores(made.scores, made.maps)
    score.batch = 5
    parts = evaluate_stream(
        made.index, score, lambda rows: [made.masks[row] for row in rows], SETTINGS, IDENTITY
    )
    assert parts.metrics[["category", "defect", "metric"]].equals(
        once.metrics[["category", "defect", "metric"]]
    )
    assert parts.metrics["value"].to_numpy() == pytest.approx(once.metrics["value"].to_numpy(), abs=1e-4)
    assert parts.metrics["ci_low"].to_numpy() == pytest.approx(once.metrics["ci_low"].to_numpy(), abs=5e-3)
    assert parts.scores.equals(once.scores)
    assert (parts.histograms.normal.sum(1) == once.histograms.normal.sum(1)).all()
    pictures = [(case.kind, case.row) for case in parts.cases]
    assert pictures == [(case.kind, case.row) for case in once.cases]
    for (one, mask), (other, same) in zip(parts.pictured, once.pictured, strict=True):
        assert np.array_equal(one, other) and np.array_equal(mask, same)


def test_groups_widen_the_intervals(made):
    groups = np.repeat(np.arange(len(made.index) // 4), 4).astype(object)
    context = Context(0.5, [""] * len(made.index), {}, frozenset(), groups, {"prompts_sha256": "0" * 64})
    folders = {"crack": "crack", "stain": "stain"}
    words = [folders.get(defect, "") for defect in made.index["defect"]]
    context = replace(context, words=words, folders=folders)
    score = HeldScores(made.scores, made.maps)
    given = made.index, score, lambda rows: [made.masks[row] for row in rows], SETTINGS, IDENTITY
    grouped, alone = (evaluate_stream(*given, one) for one in (context, replace(context, groups=None)))
    for metric in ("image_auroc", "pixel_auroc", "aupro"):
        whole = value(grouped.metrics, "bolts", metric)
        assert whole == value(alone.metrics, "bolts", metric)
        low = [value(one.metrics, "bolts", metric, column="ci_low") for one in (grouped, alone)]
        assert low[0] != low[1]
    rates = set(grouped.metrics.metric)
    assert {"false_alarm_rate", "detection_rate", "accuracy", "aupro_200"} <= rates
    assert "novel types" in set(grouped.metrics.defect) and grouped.provenance == {"prompts_sha256": "0" * 64}


def test_more_certain_with_more_images():
    from evaluate.conftest import make

    few, many = (evaluate(make(per_type=n)).metrics for n in (4, 16))
    for metric in ("image_auroc", "pixel_auroc", "aupro"):
        widths = [
            value(m, "mean", metric, column="ci_high") - value(m, "mean", metric, column="ci_low")
            for m in (few, many)
        ]
        assert widths[1] < widths[0]


@pytest.mark.parametrize("what", ["scores", "maps"])
def test_a_score_that_is_no_number_is_named(made, what):
    broken = getattr(made, what).copy()
    broken[3] = np.nan
    with pytest.raises(FlawlineError, match=r"bolts/test/crack/003\.png"):
        evaluate(made, **{what: broken})


def test_lengths_must_agree(made):
    with pytest.raises(FlawlineError, match="belong together"):
        evaluate(made, scores=made.scores[:-1])


def test_written_files(made, tmp_path):
    result = evaluate(made)
    folder = tmp_path / "cell"
    asked = []

    def loader(path):
        asked.append(path)
        return Image.new("RGB", (30, 20), (120, 90, 60))

    write_cell(result, folder, loader)
    names = {p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file()}
    pictures = {f"overlays/{kind}-{k}.png" for kind in ("best", "typical", "worst") for k in (1, 2)}
    files = {"scores.parquet", "histograms.safetensors", "metrics.csv", "curves.json", "absent.json"}
    files.add("overlays/index.json")
    assert names == files | pictures
    scores = pd.read_parquet(folder / "scores.parquet")
    assert list(scores.columns) == [
        "image",
        "category",
        "defect",
        "label",
        "image_score",
        "map_max",
        "map_mean",
    ]
    assert scores["image"].tolist() == made.index["image"].tolist()
    assert scores["map_max"].to_numpy() == pytest.approx(made.maps.max(axis=(1, 2)))
    counts = load_file(folder / "histograms.safetensors")
    assert counts["normal"].dtype == counts["anomalous"].dtype == np.int32
    assert counts["normal"].shape == (24, len(counts["edges"]) - 1)
    assert (counts["normal"].sum(1) + counts["anomalous"].sum(1) == 24 * 24).all()
    assert len(read_metrics(folder / "metrics.csv")) == len(result.metrics)
    notes = json.loads((folder / "overlays" / "index.json").read_text())
    assert sorted(asked) == sorted(note["image"] for note in notes)
    curves = json.loads((folder / "curves.json").read_text())
    assert set(curves) == {"image_roc", "pro", "pro_limit"} and set(curves["pro"]) == {"bolts", "tiles"}
    assert all(len(c["fpr"]) == len(c["tpr"]) <= 100 for c in curves["image_roc"].values())


def test_writing_twice_gives_the_same_bytes(made, tmp_path):
    for name in ("a", "b"):
        write_cell(evaluate(made), tmp_path / name, lambda path: Image.new("RGB", (30, 20)))
    assert sha256_folder(tmp_path / "a") == sha256_folder(tmp_path / "b")


def test_a_picture_that_fails_leaves_nothing(made, tmp_path):
    def loader(path):
        raise FlawlineError(f"{path} cannot be read")

    with pytest.raises(FlawlineError):
        write_cell(evaluate(made), tmp_path / "cell", loader)
    assert list(tmp_path.iterdir()) == []
