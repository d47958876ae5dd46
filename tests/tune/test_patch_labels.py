import math

import pytest
import torch

from flawline.tune.patch_labels import patch_ce, patch_labels, patch_shares


def _masks() -> torch.Tensor:
    """A 2x2 grid of 8-pixel patches: empty, an eighth, a half, full."""
    masks = torch.zeros(1, 16, 16, dtype=torch.bool)
    masks[0, 0, 8:16] = True
    masks[0, 8:12, 0:8] = True
    masks[0, 8:16, 8:16] = True
    return masks


def test_shares_are_areas_in_raster_order() -> None:
    assert patch_shares(_masks(), 4).tolist() == [[0.0, 0.125, 0.5, 1.0]]


@pytest.mark.parametrize(
    ("positive", "partial", "anomalous", "counted"),
    [
        (0.25, "ignore", [0, 0, 1, 1], [1, 0, 1, 1]),
        (0.25, "good", [0, 0, 1, 1], [1, 1, 1, 1]),
        (0.0, "ignore", [0, 1, 1, 1], [1, 1, 1, 1]),
        (0.5, "ignore", [0, 0, 0, 1], [1, 0, 0, 1]),
    ],
)
def test_labels(positive: float, partial: str, anomalous: list[int], counted: list[int]) -> None:
    found = patch_labels(_masks(), 4, positive, partial)  # type: ignore[arg-type]
    assert [one.int().tolist()[0] for one in found] == [anomalous, counted]


def test_cross_entropy_against_a_plain_loop() -> None:
    generator = torch.Generator().manual_seed(0)
    probabilities = torch.rand(3, 2, 4, 2, generator=generator)
    probabilities = probabilities / probabilities.sum(-1, keepdim=True)
    masks = torch.cat([_masks(), torch.zeros(1, 16, 16, dtype=torch.bool), ~_masks()])
    anomalous, counted = patch_labels(masks, 4, 0.25, "ignore")
    want = 0.0
    for level in range(2):
        each = [
            -math.log(float(1 - p[0] if bad else p[0]))
            for image in range(3)
            for p, bad, counts in zip(
                probabilities[image, level], anomalous[image], counted[image], strict=True
            )
            if counts
        ]
        want += sum(each) / len(each)
    assert float(patch_ce(probabilities, masks, 0.25, "ignore")) == pytest.approx(want, rel=1e-5)


def test_cross_entropy_is_finite_at_certain_answers() -> None:
    sure = torch.tensor([1.0, 0.0]).expand(1, 1, 4, 2)
    assert 0 < float(patch_ce(sure, _masks(), 0.25, "good")) < 20
