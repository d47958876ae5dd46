"""The losses against plain loops."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from flawline.prompts.shared.one_class import OneClassText


def _draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def _text() -> OneClassText:
    return OneClassText(_draw(2, 6), _draw(4, 6, seed=1), _draw(3, 6, seed=2))


def test_prototypes_are_means_of_raw_features_and_negatives_are_not_averaged() -> None:
    text = _text()
    abnormal = torch.cat([text.manual, text.learned]).sum(0)
    assert torch.allclose(text.pair[0], text.normal.sum(0) / text.normal.sum(0).norm(), atol=1e-6)
    assert torch.allclose(text.pair[1], abnormal / abnormal.norm(), atol=1e-6)
    assert text.negatives.shape == (7, 6)
    assert torch.allclose(text.negatives.norm(dim=-1), torch.ones(7), atol=1e-6)


@pytest.mark.parametrize(("over", "margin"), [(-1, 0.0), (-1, 0.3), (1, 0.0)])
def test_losses_are_plain_loops(over: int, margin: float) -> None:
    text, features = _text(), F.normalize(_draw(2, 5, 6, seed=3), dim=-1)
    normal, abnormal = text.pair
    cross, hinges = [], []
    for image in features:
        for token in image:
            logits = [4.6 * float(token @ other) for other in (normal, *text.negatives)]
            cross.append(math.log(sum(math.exp(value) for value in logits)) - logits[0])
        near, far = (image - normal) ** 2, (image - abnormal) ** 2
        apart = (near - far).sum(1 if over == -1 else 0)  # one value a token, or a feature
        hinges += [max(0.0, float(value) + margin) for value in apart]
    found = text.losses(features, 4.6, margin, over)
    assert float(found["contrastive"]) == pytest.approx(sum(cross) / len(cross), rel=1e-5)
    assert float(found["margin"]) == pytest.approx(sum(hinges) / len(hinges), rel=1e-5)
    manual, learned = (F.normalize(part, dim=-1).mean(0) for part in (text.manual, text.learned))
    assert float(found["match"]) == pytest.approx(float((manual - learned).norm() ** 2), rel=1e-5)


def test_features_on_the_good_side_have_no_margin_loss() -> None:
    text = _text()
    good = text.pair[:1, None]
    assert float(text.losses(good, 4.6, 0.0)["margin"]) == 0.0
    assert float(text.losses(text.pair[1:, None], 4.6, 0.0)["margin"]) > 0.1
