import dataclasses

import pytest
import torch

from flawline.clip.backbone import Backbone
from flawline.errors import FlawlineError
from flawline.prompts.human_free import HumanFree, HumanFreeOptions
from flawline.prompts.shared.base import TuningStage
from flawline.prompts.shared.batches import Batch, Prediction
from flawline.tune.loop import TuningData, _balanced, tune
from flawline.tune.losses import shared_losses, total


def _tuned(tiny: Backbone, data: TuningData, **options: object) -> tuple[HumanFree, list]:
    defaults = {"context_tokens": 4, "epochs": 4, "batch": 16, "learning_rate": 0.05, "temperature": 0.1}
    method = HumanFree(tiny, HumanFreeOptions(image_path="laa", **(defaults | options)), 0)  # type: ignore[arg-type]
    return method, tune(method, data, seed=0)


def _state(method: HumanFree) -> torch.Tensor:
    return torch.cat([value.flatten() for value in method.state_dict().values()])


def test_tuning_separates_defects_that_it_never_saw_named(tiny: Backbone, data: TuningData) -> None:
    method, curve = _tuned(tiny, data, guidance="none", epochs=15)
    totals = [value for _, _, quantity, value in curve if quantity == "total"]
    assert sum(totals[-3:]) < 0.7 * sum(totals[:3])
    scores, maps = method.score(data.rows(torch.arange(len(data.labels))).inputs, 64)
    assert float(scores[data.labels == 1].mean()) > float(scores[data.labels == 0].mean())
    assert float(maps[data.masks].mean()) > float(maps[~data.masks].mean())


def test_same_seed_same_prompts_to_the_bit(tiny: Backbone, data: TuningData) -> None:
    assert torch.equal(_state(_tuned(tiny, data)[0]), _state(_tuned(tiny, data)[0]))


def test_weight_zero_equals_no_guidance_to_the_bit(tiny: Backbone, data: TuningData) -> None:
    free, _ = _tuned(tiny, data, guidance="none")
    unweighted, _ = _tuned(tiny, data, guidance="projection", guidance_weight=0.0)
    assert torch.equal(_state(free), _state(unweighted))


def test_a_guide_that_wants_the_opposite_leaves_nothing_of_the_step(
    tiny: Backbone, data: TuningData, monkeypatch: pytest.MonkeyPatch
) -> None:
    def against(self: HumanFree, batch: Batch, prediction: Prediction) -> torch.Tensor:
        stage = self.stages()[0]
        return -total(stage.losses, shared_losses(set(stage.losses), batch, prediction))

    start = _state(HumanFree(tiny, HumanFreeOptions(image_path="laa", context_tokens=4), 0))
    free, _ = _tuned(tiny, data, guidance="none")
    monkeypatch.setattr(HumanFree, "guide_loss", against)
    held, curve = _tuned(tiny, data, guidance="projection", guidance_weight=1.0)
    assert all(value == 1.0 for _, _, quantity, value in curve if quantity == "guided")
    moved, moved_free = (_state(held) - start).norm(), (_state(free) - start).norm()
    assert float(moved) < 0.05 * float(moved_free)  # weight decay alone still moves it


def test_guidance_as_a_loss_is_another_thing_than_projection(tiny: Backbone, data: TuningData) -> None:
    assert not torch.equal(
        _state(_tuned(tiny, data, guidance="loss")[0]), _state(_tuned(tiny, data, guidance="projection")[0])
    )


def test_only_what_the_stage_names_trains(tiny: Backbone, data: TuningData, monkeypatch) -> None:
    method = HumanFree(tiny, HumanFreeOptions(image_path="laa", epochs=1, batch=16, context_tokens=4), 0)
    stage = dataclasses.replace(method.stages()[0], trains=("contexts.defective",))
    monkeypatch.setattr(method, "stages", lambda: [stage])
    before = {name: value.clone() for name, value in method.state_dict().items()}
    tune(method, data, 0)
    assert torch.equal(method.contexts["good"], before["contexts.good"])
    assert not torch.equal(method.contexts["defective"], before["contexts.defective"])


def test_a_stage_that_trains_nothing_is_refused(tiny: Backbone, data: TuningData, monkeypatch) -> None:
    method = HumanFree(tiny, HumanFreeOptions(image_path="laa"), 0)
    stage = TuningStage("typo", ("context_",), 1, 8, 0.1, {"image_ce": 1.0})
    monkeypatch.setattr(method, "stages", lambda: [stage])
    with pytest.raises(ValueError, match="trains nothing"):
        tune(method, data, 0)


def test_divergence_is_one_clear_error(tiny: Backbone, data: TuningData) -> None:
    with pytest.raises(FlawlineError, match=r"diverged.*methods\.human_free\.learning_rate"):
        broken = dataclasses.replace(data.inputs, cls=data.inputs.cls * float("nan"))
        _tuned(tiny, dataclasses.replace(data, inputs=broken))


def test_batches_are_half_good_and_show_every_anomaly_once() -> None:
    labels = torch.tensor([0] * 5 + [1] * 22)
    seen = []
    for picked in _balanced(labels, 8, torch.Generator().manual_seed(0)):
        assert int((labels[picked] == 0).sum()) == int((labels[picked] == 1).sum())
        seen += picked[labels[picked] == 1].tolist()
    assert sorted(seen) == list(range(5, 27))


def test_curves_name_stage_step_and_every_term(tiny: Backbone, data: TuningData) -> None:
    _, curve = _tuned(tiny, data)
    assert {row[2] for row in curve} == {"image_ce", "focal", "dice", "guide", "guided", "total"}
    assert [row[1] for row in curve if row[2] == "total"] == list(range(4 * 2))


def test_hooks_see_every_stage_and_may_pick_rows(tiny: Backbone, data: TuningData, monkeypatch) -> None:
    method = HumanFree(tiny, HumanFreeOptions(image_path="laa", context_tokens=4), 0)
    stages = [TuningStage(name, ("contexts.",), 1, 8, 0.01, {"image_ce": 1.0}) for name in ("one", "two")]
    seen: list[tuple[str, str, int]] = []
    picked = torch.cat([(data.labels == label).nonzero()[:4, 0] for label in (0, 1)])
    few = TuningData(data.inputs.rows(picked), data.masks[picked], data.labels[picked])
    monkeypatch.setattr(method, "stages", lambda: stages)

    def before(stage: TuningStage, whole: TuningData) -> TuningData:
        seen.append(("before", stage.name, len(whole.labels)))
        return few

    monkeypatch.setattr(method, "before_stage", before)
    monkeypatch.setattr(
        method, "after_stage", lambda stage, whole: seen.append(("after", stage.name, len(whole.labels)))
    )
    curve = tune(method, data, 0)
    n = len(data.labels)
    assert seen == [("before", "one", n), ("after", "one", n), ("before", "two", n), ("after", "two", n)]
    steps = [row for row in curve if row[2] == "total"]
    assert len(steps) == 2 * -(-int((few.labels == 1).sum()) // 4)


def test_levels_of_a_path_add_up_in_the_local_losses(tiny: Backbone, data: TuningData) -> None:
    """A path whose two levels are equal has twice the local losses of one level, and the same map."""
    method = HumanFree(tiny, HumanFreeOptions(image_path="laa", context_tokens=4, temperature=0.1), 0)
    batch = data.rows(torch.arange(8))
    twice = dataclasses.replace(
        batch, inputs=dataclasses.replace(batch.inputs, patches=batch.patches.repeat(1, 2, 1, 1))
    )
    names = {"focal", "dice", "image_ce"}
    one = shared_losses(names, batch, method.predict(batch))
    two = shared_losses(names, twice, method.predict(twice))
    assert torch.allclose(two["focal"], 2 * one["focal"]) and torch.allclose(two["dice"], 2 * one["dice"])
    assert torch.allclose(two["image_ce"], one["image_ce"])
    assert torch.allclose(method.score(twice.inputs, 32)[1], method.score(batch.inputs, 32)[1], atol=1e-6)


@pytest.mark.parametrize(
    ("supervision", "seen"), [("synthetic", {True}), ("real", {False}), ("both", {True, False})]
)
def test_a_stage_learns_from_the_anomalies_it_names(
    tiny: Backbone, data: TuningData, monkeypatch, supervision: str, seen: set[bool]
) -> None:
    made = torch.arange(len(data.labels)) % 4 < 2
    data = dataclasses.replace(data, synthetic=made & (data.labels == 1))
    method = HumanFree(tiny, HumanFreeOptions(image_path="laa", context_tokens=4), 0)
    stage = TuningStage("one", ("contexts.",), 1, 8, 0.01, {"image_ce": 1.0}, supervision=supervision)  # type: ignore[arg-type]
    monkeypatch.setattr(method, "stages", lambda: [stage])
    given: list[TuningData] = []
    monkeypatch.setattr(method, "before_stage", lambda stage, rows: given.append(rows) or rows)
    tune(method, data, 0)
    (rows,) = given
    assert rows.synthetic is not None
    assert set(rows.synthetic[rows.labels == 1].tolist()) == seen
    assert int((rows.labels == 0).sum()) == int((data.labels == 0).sum())


def test_a_stage_without_its_anomalies_is_refused(tiny: Backbone, data: TuningData, monkeypatch) -> None:
    data = dataclasses.replace(data, synthetic=data.labels == 1)
    method = HumanFree(tiny, HumanFreeOptions(image_path="laa"), 0)
    stage = TuningStage("one", ("contexts.",), 1, 8, 0.01, {"image_ce": 1.0}, supervision="real")
    monkeypatch.setattr(method, "stages", lambda: [stage])
    with pytest.raises(FlawlineError, match=r"learns from real anomalies.*features\.real"):
        tune(method, data, 0)
