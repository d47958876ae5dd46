"""The gate: better goes through, equal and worse stay, and nothing depends on order."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from flawline.errors import FlawlineError
from flawline.gate.candidate import Candidate
from flawline.gate.decide import decide, undecided
from gate.made import SETTINGS, Images, candidate, claims, judged


def test_better_everywhere_is_promoted(tmp_path: Path) -> None:
    decision = judged(tmp_path, {"boards": 2.5, "fabrics": 2.5}, {"boards": 1.0, "fabrics": 1.0})
    assert decision.verdict == "promote" and decision.against == "champion"
    assert all(test.passed for test in decision.tests)
    assert {(t.test_set, t.metric, t.defect) for t in claims(decision, "not worse", seed=None)} == {
        (test, metric, defect)
        for test in ("boards", "fabrics")
        for metric, defect in (("image_auroc", "all"), ("pixel_auroc", "all"), ("image_auroc", "crack"))
    }
    [mean] = claims(decision, "better", test_set="mean")
    assert mean.ci_low <= mean.difference <= mean.ci_high and mean.ci_low > 0 and mean.p_holm == mean.p
    assert mean.difference == pytest.approx(mean.challenger - mean.champion)
    assert (mean.n_normal, mean.n_anomalous) == (120, 120)
    assert f"{mean.difference:+.3f} in mean image_auroc" in decision.reason


def test_the_very_same_scores_stay(tmp_path: Path) -> None:
    one = candidate(tmp_path, "one", {"boards": 1.0}, seeds={0: 0.0})
    same = replace(one, described={"sha256": "two"}, seeds=dict.fromkeys(range(3), one.evaluations))
    decision = decide(same, one, SETTINGS, "r")
    assert decision.verdict == "stay" and decision.reason.startswith("not shown to be better")
    assert [test.claim for test in decision.tests if not test.passed] == ["better"]
    assert {t.difference for t in decision.tests if t.claim != "above chance"} == {0.0}


def test_a_little_noise_is_not_better(tmp_path: Path) -> None:
    assert judged(tmp_path, {"boards": 1.0}, {"boards": 1.0}).verdict == "stay"


def test_worse_stays(tmp_path: Path) -> None:
    decision = judged(tmp_path, {"boards": 0.5}, {"boards": 2.0})
    assert decision.verdict == "stay"
    assert not any(test.passed for test in [*claims(decision, "not worse"), *claims(decision, "better")])


def test_better_in_the_mean_but_worse_on_one_set_stays(tmp_path: Path) -> None:
    decision = judged(tmp_path, {"boards": 3.0, "fabrics": 0.8}, {"boards": 0.5, "fabrics": 1.6})
    [mean] = claims(decision, "better", test_set="mean")
    assert mean.passed and decision.verdict == "stay"
    assert "image_auroc on fabrics" in decision.reason and "on boards" not in decision.reason


def test_the_margin_is_what_may_be_lost(tmp_path: Path) -> None:
    new, old = {"boards": 3.0, "fabrics": 1.5}, {"boards": 0.5, "fabrics": 1.6}
    strict = judged(tmp_path / "a", new, old, SETTINGS.model_copy(update={"margin": 0.001}))
    wide = judged(tmp_path / "b", new, old, SETTINGS.model_copy(update={"margin": 0.2}))
    assert (strict.verdict, wide.verdict) == ("stay", "promote")
    assert wide.margin == 0.2


def test_one_type_that_is_lost_keeps_the_champion(tmp_path: Path) -> None:
    """A rare type hardly moves the data set's number, which is why types are tested by themselves."""
    images = Images(good=40, types={"crack": 60, "stain": 12})
    new, old = {"boards": {"crack": 2.5, "stain": 0.0}}, {"boards": {"crack": 1.0, "stain": 2.0}}
    decision = judged(tmp_path, new, old, images=images)
    [lost] = [test for test in decision.tests if not test.passed and test.decides]
    assert (lost.claim, lost.test_set, lost.defect, lost.n_anomalous) == ("not worse", "boards", "stain", 24)
    assert decision.verdict == "stay" and "stain on boards" in decision.reason
    few = judged(tmp_path / "few", new, old, SETTINGS.model_copy(update={"min_images": 25}), images=images)
    assert few.verdict == "promote" and not claims(few, "not worse", defect="stain")
    assert few.types == {"boards": {"crack": 120, "stain": 24}}


def test_better_on_a_type_the_champion_never_knew_is_enough(tmp_path: Path) -> None:
    images = Images(good=60, types={"crack": 60, "hole": 15})
    new, old = {"boards": {"crack": 1.5, "hole": 3.0}}, {"boards": {"crack": 1.6, "hole": 1.2}}
    both = [candidate(tmp_path, name, gaps, images) for name, gaps in (("new", new), ("old", old))]
    settings = SETTINGS.model_copy(update={"margin": 0.1})
    fresh = decide(*both, settings, "r", known={"boards": ["crack"]})
    [mean] = claims(fresh, "better", test_set="mean")
    [hole] = claims(fresh, "better", defect="hole")
    assert not mean.passed and hole.passed and hole.p_holm == 2 * hole.p  # type: ignore[operator]
    assert fresh.verdict == "promote" and "new type hole on boards" in fresh.reason
    assert fresh.new_types == (("boards", "hole"),)
    for known in ({"boards": ["crack", "hole"]}, None):
        old_hat = decide(*both, settings, "r", known=known)
        assert (
            old_hat.verdict == "stay"
            and old_hat.new_types == ()
            and not claims(old_hat, "better", defect="hole")
        )


def test_the_mean_and_the_new_types_share_one_error_rate(tmp_path: Path) -> None:
    """With three new types every p is up to four times what it is alone."""
    images = Images(good=40, types={"crack": 40, "a": 20, "b": 20, "c": 20})
    both = [candidate(tmp_path, name, {"boards": 1.2}, images) for name in ("new", "old")]
    decision = decide(*both, SETTINGS, "r", known={"boards": ["crack"]})
    family = claims(decision, "better", decides=True)
    assert len(family) == 4
    smallest = min(family, key=lambda claim: claim.p or 1)
    assert smallest.p_holm == pytest.approx(min(1.0, 4 * (smallest.p or 1)))


def test_single_test_sets_are_told_with_holms_correction_and_decide_nothing(tmp_path: Path) -> None:
    decision = judged(tmp_path, {"boards": 2.5, "fabrics": 1.0}, {"boards": 1.0, "fabrics": 1.0})
    told = claims(decision, "better", decides=False)
    assert [(t.test_set, t.passed) for t in told] == [("boards", True), ("fabrics", False)]
    assert told[0].p_holm == pytest.approx(2 * (told[0].p or 1))
    assert decision.verdict == "promote"


def test_the_worst_seed_may_not_be_inferior(tmp_path: Path) -> None:
    gaps = {"boards": 2.5, "fabrics": 2.5}
    old = candidate(tmp_path, "old", {"boards": 1.2, "fabrics": 1.2})
    lucky = candidate(tmp_path, "lucky", gaps, seeds={0: 0.0, 1: 0.1, 2: -2.0})
    decision = decide(lucky, old, SETTINGS, "r")
    [worst] = [test for test in decision.tests if test.seed is not None]
    assert (worst.seed, worst.passed) == (2, False)
    assert decision.verdict == "stay" and "seed 2" in decision.reason
    assert decide(candidate(tmp_path, "steady", gaps), old, SETTINGS, "r").verdict == "promote"


def test_more_false_alarms_at_its_own_threshold_stay(tmp_path: Path) -> None:
    old = candidate(tmp_path, "old", {"boards": 1.0})
    new = candidate(tmp_path, "new", {"boards": 2.5})
    assert decide(new, old, SETTINGS, "r").verdict == "promote"
    hasty = decide(replace(new, threshold=0.5), old, SETTINGS, "r")
    [alarms] = claims(hasty, "false alarms")
    assert not alarms.passed and alarms.ci_high > 0.1 and alarms.n_normal == 60
    assert hasty.verdict == "stay" and "more false alarms" in hasty.reason
    blind = decide(replace(new, threshold=None), old, SETTINGS, "r")
    assert blind.verdict == "stay" and "not enough evidence: a threshold is not known" in blind.reason


def test_what_costs_more_than_the_factor_stays(tmp_path: Path) -> None:
    settings = SETTINGS.model_copy(update={"cost_factor": 2.0})
    old = candidate(tmp_path, "old", {"boards": 1.0})
    new = candidate(tmp_path, "new", {"boards": 2.5})
    assert decide(replace(new, cost=2_000_000), old, settings, "r").verdict == "promote"
    dear = decide(replace(new, cost=2_500_000), old, settings, "r")
    assert dear.verdict == "stay" and "2.50 times the operations" in dear.reason
    for one, other in ((replace(new, cost=None), old), (new, replace(old, cost=None))):
        unknown = decide(one, other, settings, "r")
        assert unknown.verdict == "stay" and "could not be counted" in unknown.reason
    assert decide(replace(new, cost=None), old, SETTINGS, "r").verdict == "promote"


def test_swapped_labels_are_noticed(tmp_path: Path) -> None:
    """Once the champion ranks good above defective where it was good before, the labels are the first suspect."""
    old, new = candidate(tmp_path, "old", {"boards": -1.5}), candidate(tmp_path, "new", {"boards": 2.5})
    swapped = decide(new, old, SETTINGS, "r", known={"boards": ["crack"]})
    assert swapped.verdict == "stay" and "are its labels right" in swapped.reason
    assert "the champion ranks" in swapped.reason
    assert decide(new, old, SETTINGS, "r", known={"fabrics": []}).verdict == "promote", "a new test set"
    mine = decide(old, candidate(tmp_path, "worse", {"boards": -2.5}), SETTINGS, "r")
    assert mine.verdict == "stay" and "the challenger ranks" in mine.reason


def test_groups_count_as_one(tmp_path: Path) -> None:
    """Five views of one part that look alike are no five parts: the interval is wider."""
    both = [candidate(tmp_path, n, {"boards": g}) for n, g in (("new", 2.0), ("old", 1.2))]
    for path in {side.evaluations["boards"] / "scores.parquet" for side in both}:
        table = pd.read_parquet(path)
        table["image_score"] = table["image_score"].to_numpy()[np.arange(len(table)) // 5 * 5]
        table.to_parquet(path, index=False)
    group = [f"part {n // 5}" for n in range(len(table))]
    manifest = table.assign(dataset="boards", group=group)
    found = [decide(*both, SETTINGS, "r", manifest=one) for one in (None, manifest)]
    narrow, wide = (claims(decision, "better", test_set="mean")[0] for decision in found)
    assert narrow.difference == wide.difference
    assert wide.ci_high - wide.ci_low > 1.5 * (narrow.ci_high - narrow.ci_low)


def test_the_order_of_rows_and_of_test_sets_does_not_matter(tmp_path: Path) -> None:
    new = candidate(tmp_path, "new", {"boards": 1.6, "fabrics": 1.8})
    old = candidate(tmp_path, "old", {"boards": 1.2, "fabrics": 1.2})
    plain = decide(new, old, SETTINGS, "r")
    for side in (new, old):
        for folder in {path for found in side.seeds.values() for path in found.values()}:
            shuffle(folder, seed=len(str(folder)))
    turned = replace(
        new,
        evaluations=dict(reversed(list(new.evaluations.items()))),
        seeds=dict(reversed(list(new.seeds.items()))),
    )
    assert decide(turned, old, SETTINGS, "r") == plain


def shuffle(folder: Path, seed: int) -> None:
    from safetensors.numpy import load_file, save_file

    table = pd.read_parquet(folder / "scores.parquet")
    order = np.random.default_rng(seed).permutation(len(table))
    table.iloc[order].to_parquet(folder / "scores.parquet", index=False)
    held = load_file(folder / "histograms.safetensors")
    held = {k: v if k == "edges" else np.ascontiguousarray(v[order]) for k, v in held.items()}
    save_file(held, folder / "histograms.safetensors")


@pytest.mark.parametrize("side", ["champion", "seed"])
@pytest.mark.parametrize(
    "spoil",
    [
        lambda t: t.iloc[:-1],
        lambda t: t.assign(image=t["image"].str.replace("000", "999")),
        lambda t: t.assign(label=1 - t["label"]),
    ],
)
def test_other_images_are_refused(tmp_path: Path, spoil, side: str) -> None:  # type: ignore[no-untyped-def]
    new, old = candidate(tmp_path, "new", {"boards": 1.0}), candidate(tmp_path, "old", {"boards": 1.0})
    folder = old.evaluations["boards"] if side == "champion" else new.seeds[1]["boards"]
    path = folder / "scores.parquet"
    spoil(pd.read_parquet(path)).to_parquet(path, index=False)
    with pytest.raises(FlawlineError, match=r"same images|does not belong"):
        decide(new, old, SETTINGS, "r")


def test_damaged_histograms_are_named(tmp_path: Path) -> None:
    new, old = candidate(tmp_path, "new", {"boards": 1.0}), candidate(tmp_path, "old", {"boards": 1.0})
    (old.evaluations["boards"] / "histograms.safetensors").write_bytes(b"half")
    with pytest.raises(FlawlineError, match=r"histograms\.safetensors"):
        decide(new, old, SETTINGS, "r")


def test_a_first_champion_must_beat_the_baseline(tmp_path: Path) -> None:
    words = candidate(tmp_path, "words", {"boards": 0.8}, seeds={0: 0.0})
    good = decide(candidate(tmp_path, "good", {"boards": 2.0}), None, SETTINGS, "r", baseline=words)
    poor = decide(candidate(tmp_path, "poor", {"boards": 0.8}), None, SETTINGS, "r", baseline=words)
    assert (good.verdict, good.champion, good.against) == ("promote", None, "baseline words")
    assert poor.verdict == "stay" and "baseline words" in poor.reason


def test_without_masks_the_image_level_decides(tmp_path: Path) -> None:
    decision = judged(tmp_path, {"boards": 2.5}, {"boards": 0.8}, images=Images(masks=False))
    assert decision.verdict == "promote"
    assert "pixel_auroc" not in {test.metric for test in decision.tests}


def test_the_pixel_level_may_be_what_counts(tmp_path: Path) -> None:
    settings = SETTINGS.model_copy(update={"better_in": "pixel_auroc"})
    decision = judged(tmp_path, {"boards": 2.5}, {"boards": 0.8}, settings)
    assert decision.verdict == "promote"
    assert {t.metric for t in claims(decision, "better")} == {"pixel_auroc"}
    assert [t.metric for t in decision.tests if t.seed is not None] == ["pixel_auroc"]


def test_the_record_is_plain_json_and_keeps_the_old_keys(tmp_path: Path) -> None:
    record = judged(tmp_path, {"boards": 2.5}, {"boards": 1.0}).record()
    assert json.loads(json.dumps(record, allow_nan=False)) == record
    old = {
        "champion",
        "challenger",
        "against",
        "tests",
        "verdict",
        "reason",
        "margin",
        "confidence",
        "results",
    }
    assert old <= set(record)
    kept = {"test_set", "metric", "champion", "challenger", "difference", "ci_low", "ci_high", "passed"}
    assert kept <= set(record["tests"][0])


def test_a_champion_that_cannot_be_measured_stays() -> None:
    decision = undecided(
        {"sha256": "n"}, {"sha256": "o"}, SETTINGS, "r", "champion version 3 is of another backbone"
    )
    assert decision.verdict == "stay" and decision.tests == ()
    assert decision.reason == "not enough evidence: champion version 3 is of another backbone"


def test_a_candidate_without_seeds_is_only_held_against(tmp_path: Path) -> None:
    new = candidate(tmp_path, "new", {"boards": 2.5})
    old = candidate(tmp_path, "old", {"boards": 1.0}, seeds={0: 0.0})
    bare = Candidate(old.described, old.evaluations, {}, old.threshold, old.cost)
    assert decide(new, bare, SETTINGS, "r").verdict == "promote"
