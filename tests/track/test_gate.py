"""The gate: better goes through, equal and worse stay, and nothing depends on order."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from safetensors.numpy import save_file

from flawline.errors import FlawlineError
from flawline.settings import GateSettings
from flawline.track.gate import Candidate, Decision, decide

SETTINGS = GateSettings(metrics=["image_auroc", "pixel_auroc"], bootstrap=300)
N, BINS = 60, 32


def evaluation(
    folder: Path, gap: float, noise: int = 0, normal_only: bool = False, masks: bool = True
) -> Path:
    """Scores whose two classes lie `gap` standard deviations apart, and pixels just so."""
    rng = np.random.default_rng(1)  # the same images for all: the easy ones are easy for everyone
    own = np.random.default_rng([2, noise])
    labels = np.zeros(N, int) if normal_only else np.arange(N) % 2
    scores = rng.normal(size=N) + 0.1 * own.normal(size=N) + gap * labels
    edges = np.linspace(-4, 8, BINS + 1).astype(np.float32)
    normal, anomalous = np.zeros((N, BINS), np.int32), np.zeros((N, BINS), np.int32)
    for row in range(N):
        normal[row] = np.histogram(rng.normal(size=50), edges)[0]
        if labels[row] and masks:
            anomalous[row] = np.histogram(rng.normal(size=10) + gap, edges)[0]
    if not masks:
        normal[:] = 0
    table = pd.DataFrame(
        {
            "image": [f"boards/pcb/{k:02d}.png" for k in range(N)],
            "category": np.where(np.arange(N) % 4 < 2, "pcb", "relay"),
            "defect": np.where(labels == 1, "crack", "good"),
            "label": labels,
            "image_score": scores,
        }
    )
    folder.mkdir(parents=True)
    table.to_parquet(folder / "scores.parquet", index=False)
    save_file({"normal": normal, "anomalous": anomalous, "edges": edges}, folder / "histograms.safetensors")
    return folder


def candidate(root: Path, name: str, gaps: dict[str, float], **how: object) -> Candidate:
    described = {"version": "1", "method": "m", "train_set": "castings", "seed": 0, "sha256": name}
    folders = {t: evaluation(root / name / t, gap, **how) for t, gap in gaps.items()}  # type: ignore[arg-type]
    return Candidate(described, folders)


def judged(
    root: Path, new: dict[str, float], old: dict[str, float], settings: GateSettings = SETTINGS
) -> Decision:
    return decide(candidate(root, "new", new, noise=1), candidate(root, "old", old, noise=2), settings, "r")


def test_better_everywhere_is_promoted(tmp_path: Path) -> None:
    decision = judged(tmp_path, {"boards": 2.5, "fabrics": 2.5}, {"boards": 1.0, "fabrics": 1.0})
    assert decision.verdict == "promote"
    assert len(decision.tests) == 5 and all(test.passed for test in decision.tests)
    mean = decision.tests[-1]
    assert (mean.test_set, mean.metric) == ("mean", "image_auroc")
    assert mean.ci_low <= mean.difference <= mean.ci_high and mean.ci_low > 0
    assert mean.difference == pytest.approx(mean.challenger - mean.champion)


def test_the_very_same_scores_stay(tmp_path: Path) -> None:
    one = candidate(tmp_path, "one", {"boards": 1.0})
    decision = decide(one, Candidate({"sha256": "two"}, one.evaluations), SETTINGS, "r")
    assert decision.verdict == "stay" and "better" in decision.reason
    assert [test.passed for test in decision.tests] == [True, True, False]
    assert {test.difference for test in decision.tests} == {0.0}


def test_a_little_noise_is_not_better(tmp_path: Path) -> None:
    assert judged(tmp_path, {"boards": 1.0}, {"boards": 1.0}).verdict == "stay"


def test_worse_stays(tmp_path: Path) -> None:
    decision = judged(tmp_path, {"boards": 0.5}, {"boards": 2.0})
    assert decision.verdict == "stay" and not any(test.passed for test in decision.tests)


def test_better_in_the_mean_but_worse_on_one_set_stays(tmp_path: Path) -> None:
    decision = judged(tmp_path, {"boards": 3.0, "fabrics": 0.8}, {"boards": 0.5, "fabrics": 1.6})
    mean = decision.tests[-1]
    assert mean.passed
    assert decision.verdict == "stay" and "fabrics" in decision.reason and "boards" not in decision.reason


def test_the_margin_is_what_may_be_lost(tmp_path: Path) -> None:
    new, old = {"boards": 3.0, "fabrics": 1.5}, {"boards": 0.5, "fabrics": 1.6}
    strict = judged(tmp_path / "a", new, old, SETTINGS.model_copy(update={"margin": 0.001}))
    wide = judged(tmp_path / "b", new, old, SETTINGS.model_copy(update={"margin": 0.2}))
    assert (strict.verdict, wide.verdict) == ("stay", "promote")
    assert wide.margin == 0.2


def test_the_order_of_rows_and_of_test_sets_does_not_matter(tmp_path: Path) -> None:
    new = candidate(tmp_path, "new", {"boards": 1.6, "fabrics": 1.8}, noise=1)
    old = candidate(tmp_path, "old", {"boards": 1.2, "fabrics": 1.2}, noise=2)
    plain = decide(new, old, SETTINGS, "r")
    for side in (new, old):
        for folder in side.evaluations.values():
            shuffle(folder, seed=len(str(folder)))
    turned = Candidate(new.described, dict(reversed(list(new.evaluations.items()))))
    assert decide(turned, old, SETTINGS, "r") == plain


def shuffle(folder: Path, seed: int) -> None:
    from safetensors.numpy import load_file

    order = np.random.default_rng(seed).permutation(N)
    pd.read_parquet(folder / "scores.parquet").iloc[order].to_parquet(folder / "scores.parquet", index=False)
    held = load_file(folder / "histograms.safetensors")
    held = {k: v if k == "edges" else np.ascontiguousarray(v[order]) for k, v in held.items()}
    save_file(held, folder / "histograms.safetensors")


@pytest.mark.parametrize(
    "spoil",
    [
        lambda t: t.iloc[:-1],
        lambda t: t.assign(image=t["image"].str.replace("00", "99")),
        lambda t: t.assign(label=1 - t["label"]),
    ],
)
def test_other_images_are_refused(tmp_path: Path, spoil) -> None:  # type: ignore[no-untyped-def]
    new, old = candidate(tmp_path, "new", {"boards": 1.0}), candidate(tmp_path, "old", {"boards": 1.0})
    path = old.evaluations["boards"] / "scores.parquet"
    spoil(pd.read_parquet(path)).to_parquet(path, index=False)
    with pytest.raises(FlawlineError, match="same images"):
        decide(new, old, SETTINGS, "r")


def test_damaged_histograms_are_named(tmp_path: Path) -> None:
    new, old = candidate(tmp_path, "new", {"boards": 1.0}), candidate(tmp_path, "old", {"boards": 1.0})
    (old.evaluations["boards"] / "histograms.safetensors").write_bytes(b"half")
    with pytest.raises(FlawlineError, match=r"histograms\.safetensors"):
        decide(new, old, SETTINGS, "r")


def test_a_first_champion_must_beat_the_baseline(tmp_path: Path) -> None:
    words = candidate(tmp_path, "words", {"boards": 0.8}, noise=2)
    good = decide(candidate(tmp_path, "good", {"boards": 2.0}), None, SETTINGS, "r", baseline=words)
    poor = decide(candidate(tmp_path, "poor", {"boards": 0.8}, noise=3), None, SETTINGS, "r", baseline=words)
    assert (good.verdict, good.champion, good.against) == ("promote", None, "baseline words")
    assert poor.verdict == "stay" and "baseline words" in poor.reason


def test_nothing_to_compare_with_is_not_enough_evidence(tmp_path: Path) -> None:
    new = candidate(tmp_path, "new", {"boards": 2.0})
    assert "not enough evidence" in decide(new, None, SETTINGS, "r").reason
    elsewhere = candidate(tmp_path, "old", {"fabrics": 1.0})
    decision = decide(new, elsewhere, SETTINGS, "r")
    assert decision.verdict == "stay" and decision.tests == () and "not enough evidence" in decision.reason


def test_one_class_only_is_not_enough_evidence(tmp_path: Path) -> None:
    new = candidate(tmp_path, "new", {"boards": 2.0}, normal_only=True)
    old = candidate(tmp_path, "old", {"boards": 1.0}, normal_only=True)
    assert "not enough evidence" in decide(new, old, SETTINGS, "r").reason


def test_without_masks_the_image_level_decides(tmp_path: Path) -> None:
    new = candidate(tmp_path, "new", {"boards": 2.5}, masks=False)
    old = candidate(tmp_path, "old", {"boards": 0.8}, masks=False)
    decision = decide(new, old, SETTINGS, "r")
    assert decision.verdict == "promote"
    assert {test.metric for test in decision.tests} == {"image_auroc"}


def test_the_record_is_plain_json(tmp_path: Path) -> None:
    import json

    record = judged(tmp_path, {"boards": 2.5}, {"boards": 1.0}).record()
    assert json.loads(json.dumps(record, allow_nan=False)) == record
    assert {"champion", "challenger", "tests", "verdict", "reason", "margin", "confidence", "results"} <= set(
        record
    )
