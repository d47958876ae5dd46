import math

import pytest
import torch

from flawline.tune.losses import dice, focal, image_ce, total


def test_focal_against_a_plain_loop() -> None:
    generator = torch.Generator().manual_seed(0)
    maps, masks = torch.rand(2, 5, 5, generator=generator), torch.rand(2, 5, 5, generator=generator) > 0.7
    want = 0.0
    for p, y in zip(maps.flatten().tolist(), masks.flatten().tolist(), strict=True):
        target = min(max(float(y), 1e-5), 1 - 1e-5)
        right = target * p + (1 - target) * (1 - p) + 1e-5
        want -= max(0.0, 1 - right) ** 2 * math.log(right) / 50
    assert float(focal(maps, masks)) == pytest.approx(want, rel=1e-5)


def test_dice_is_zero_for_equal_and_near_one_for_disjoint() -> None:
    masks = torch.zeros(3, 20, 20, dtype=torch.bool)
    masks[:, 5:15, 5:15] = True
    assert float(dice(masks.float(), masks)) == pytest.approx(0.0, abs=1e-6)
    assert float(dice(1.0 - masks.float(), masks)) > 0.99


def test_image_ce_is_finite_at_certain_answers() -> None:
    sure = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    assert float(image_ce(sure, torch.tensor([1, 0]))) < 20
    assert float(image_ce(sure, torch.tensor([0, 1]))) < 1e-4


def test_total_weighs_named_terms_only() -> None:
    terms = {"a": torch.tensor(2.0), "b": torch.tensor(3.0), "c": torch.tensor(100.0)}
    assert float(total({"a": 1.0, "b": 0.5}, terms)) == 3.5
