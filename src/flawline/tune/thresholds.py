"""The score above which an image is called anomalous, chosen on the training side alone.

No test image is looked at: a threshold that had seen the test set would make its false-alarm rate a fiction.
"""

from typing import Any

import torch
from torch import Tensor

from flawline.errors import FlawlineError
from flawline.prompts.shared.base import PromptMethod
from flawline.settings import ThresholdSettings
from flawline.tune.loop import TuningData

_ROWS = 64  # images scored at a time: pixels of a whole training set would not fit


def choose_threshold(
    method: PromptMethod, data: TuningData, settings: ThresholdSettings, support: Tensor
) -> dict[str, Any]:
    """The threshold of a tuned method, as its card holds it.

    Args:
        method: tuned, and with its support if it is a few-shot method.
        data: the training set. Rule `f1` takes its real defective images where it has any, else the synthetic ones.
        settings: the rule.
        support: rows int64 of support images. They are left out: compared with themselves they are closer than any
            new image can be.

    Returns:
        `{value, rule, quantile, from}`; quantile is null for another rule. An image is anomalous when its score is
        above the value.

    Raises:
        FlawlineError: the rule needs defective images and there are none.
    """
    good = (data.labels == 0).nonzero()[:, 0]
    others = good[~torch.isin(good, support)]
    scores = _scores(method, data, others if len(others) else good)
    if settings.rule == "quantile":
        value = torch.quantile(scores, settings.quantile).item()
        return {
            "value": value, "rule": "quantile", "quantile": settings.quantile, "from": "good training images",
        }  # fmt: skip
    bad, what = _defective(data)
    if not len(bad):
        raise FlawlineError(
            "tune.threshold.rule is f1, but the training set has no defective images",
            "set tune.threshold.rule to quantile, which needs good images alone",
        )
    value = best_f1_threshold(scores, _scores(method, data, bad))
    return {"value": value, "rule": "f1", "quantile": None, "from": f"good training images and {what}"}


def best_f1_threshold(good: Tensor, bad: Tensor) -> float:
    """The threshold at which `score > threshold` has the largest F1; of several the highest.

    Args:
        good, bad: float [g] and [b], scores of good and of defective images, b at least 1.

    Returns:
        Halfway between the lowest score that is called anomalous and the next one below it, so that neither a rounded
        score nor the strict comparison turns the answer; the lowest score less 1e-6 where everything is anomalous.
    """
    values = torch.unique(torch.cat([good, bad]).double(), sorted=True).flip(0)
    hits = (bad.double()[:, None] >= values).sum(0)
    alarms = (good.double()[:, None] >= values).sum(0)
    f1 = 2 * hits / (hits + alarms + len(bad))
    best = int(torch.argmax(f1))  # the first of equals
    lowest = values[best]
    below = values[best + 1] if best + 1 < len(values) else lowest - 2e-6
    return float((lowest + below) / 2)


def _defective(data: TuningData) -> tuple[Tensor, str]:
    """Rows of the defective images to choose by, and what they are."""
    bad = data.labels == 1
    made = torch.ones_like(bad) if data.synthetic is None else data.synthetic
    real = (bad & ~made).nonzero()[:, 0]
    if len(real):
        return real, "real defective images of the training set"
    return (bad & made).nonzero()[:, 0], "synthetic anomalies"


def _scores(method: PromptMethod, data: TuningData, rows: Tensor) -> Tensor:
    size = method.backbone.image_size
    return torch.cat([method.score(data.rows(part).inputs, size)[0] for part in rows.split(_ROWS)])
