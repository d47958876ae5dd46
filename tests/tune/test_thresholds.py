"""The threshold is chosen on the training side by a stated rule, and the card says which."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from ruamel.yaml import YAML
from sklearn.metrics import f1_score

from flawline.clip.backbone import Backbone
from flawline.errors import FlawlineError
from flawline.prompts import method_class, method_options
from flawline.settings import ThresholdSettings, parse_settings
from flawline.tune.loop import TuningData
from flawline.tune.thresholds import best_f1_threshold, choose_threshold

NONE = torch.empty(0, dtype=torch.int64)
QUANTILE, F1 = ThresholdSettings(quantile=0.75), ThresholdSettings(rule="f1")


@pytest.fixture
def words(tiny: Backbone) -> Any:
    return method_class("words")(
        tiny, method_options("words", {"image_path": "laa", "smoothing": 0.0}), 0
    ).eval()


def scores(method: Any, data: TuningData) -> torch.Tensor:
    return method.score(data.rows(torch.arange(len(data.labels))).inputs, method.backbone.image_size)[0]


@pytest.mark.parametrize("seed", range(6))
def test_no_other_threshold_has_a_larger_f1(seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    levels = 5 if seed % 2 else 1000  # with ties and without
    good = (torch.rand(30, generator=generator) * levels).round() / levels
    bad = ((torch.rand(12, generator=generator) * 0.8 + 0.3) * levels).round() / levels
    labels, values = [0] * 30 + [1] * 12, torch.cat([good, bad])

    def f1(threshold: float) -> float:
        return float(f1_score(labels, (values > threshold).int()))

    chosen = best_f1_threshold(good, bad)
    assert f1(chosen) == pytest.approx(max(f1(float(value) - 1e-4) for value in values))
    assert float((values.double() - chosen).abs().min()) > 4e-7


def test_one_kind_of_score_calls_everything_anomalous() -> None:
    assert best_f1_threshold(torch.full((3,), 0.5), torch.full((2,), 0.5)) < 0.5


def test_a_quantile_of_good_images_alone(words: Any, data: TuningData) -> None:
    card = choose_threshold(words, data, QUANTILE, NONE)
    good = scores(words, data)[data.labels == 0]
    assert card == {
        "value": torch.quantile(good, 0.75).item(), "rule": "quantile", "quantile": 0.75,
        "from": "good training images",
    }  # fmt: skip
    spoilt = replace(data, inputs=replace(data.inputs, cls=data.inputs.cls.clone()))
    spoilt.inputs.cls[8:] *= -1
    assert choose_threshold(words, spoilt, QUANTILE, NONE) == card


def test_support_images_take_no_part(words: Any, data: TuningData) -> None:
    support = torch.tensor([0, 3])
    card = choose_threshold(words, data, QUANTILE, support)
    assert card["value"] == torch.quantile(scores(words, data)[[1, 2, 4, 5, 6, 7]], 0.75).item()
    everything = choose_threshold(words, data, QUANTILE, torch.arange(8))
    assert everything == choose_threshold(words, data, QUANTILE, NONE)


def test_f1_takes_real_defects_before_synthetic_ones(words: Any, data: TuningData) -> None:
    found, labels = scores(words, data), data.labels
    card = choose_threshold(words, data, F1, NONE)
    assert card["from"].endswith("synthetic anomalies") and card["rule"] == "f1" and card["quantile"] is None
    assert card["value"] == best_f1_threshold(found[labels == 0], found[labels == 1])
    synthetic = torch.arange(24) >= 12
    real = choose_threshold(words, replace(data, synthetic=synthetic), F1, NONE)
    assert "real defective images" in real["from"]
    assert real["value"] == best_f1_threshold(found[:8], found[8:12])


def test_f1_without_defects_is_refused(words: Any, data: TuningData) -> None:
    with pytest.raises(FlawlineError, match="no defective images") as caught:
        choose_threshold(words, data.only(torch.arange(8)), F1, NONE)
    assert "quantile" in caught.value.remedy


def params(repository: Any, **tune: Any) -> Any:
    raw = YAML(typ="safe", pure=True).load(repository / "params.yaml")
    raw["tune"].pop("threshold")
    raw["tune"].update(tune)
    return parse_settings(raw).tune.threshold


def test_the_old_key_is_read_as_the_quantile(repository: Any) -> None:
    assert params(repository) == ThresholdSettings()
    assert params(repository, threshold_quantile=0.9) == ThresholdSettings(quantile=0.9)
    assert params(repository, threshold={"rule": "f1"}) == F1


@pytest.mark.parametrize(
    ("given", "named"),
    [
        ({"threshold_quantile": 1.0}, r"tune\.threshold\.quantile"),
        ({"threshold_quantile": 0.9, "threshold": {"rule": "f1"}}, r"tune\.threshold_quantile.*old name"),
        ({"threshold": {"rule": "best"}}, r"tune\.threshold\.rule"),
        ({"threshold": {"quantil": 0.9}}, r"tune\.threshold\.quantil"),
    ],
)
def test_faults_name_the_key(repository: Any, given: dict[str, Any], named: str) -> None:
    with pytest.raises(FlawlineError, match=named):
        params(repository, **given)
