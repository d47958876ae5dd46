"""Class maps and the losses on them against slow references; golden numbers are in tests/prompts/test_dapo.py."""

import math

import pytest
import torch
from torch import Tensor

from flawline.tune.type_losses import class_maps, foreground, level_losses, type_focal


def maps_of(classes: int = 3, side: int = 4) -> tuple[Tensor, Tensor]:
    """Probabilities [2, C, side, side] and classes [2, side, side]."""
    generator = torch.Generator().manual_seed(0)
    maps = torch.randn(2, classes, side, side, generator=generator).softmax(1)
    return maps, torch.randint(0, classes, (2, side, side), generator=generator)


@pytest.mark.parametrize("classes", [2, 3, 21])
def test_focal_is_the_formula_pixel_by_pixel(classes: int) -> None:
    maps, target = maps_of(classes)
    total = 0.0
    for image in range(2):
        for row in range(4):
            for column in range(4):
                p = 1e-5
                for c in range(classes):
                    wanted = float(c == int(target[image, row, column]))
                    smooth = min(max(wanted, 1e-5 / (classes - 1)), 1 - 1e-5)
                    p += smooth * float(maps[image, c, row, column])
                total += -((1 - p) ** 2) * math.log(p) / 32
    assert float(type_focal(maps, target)) == pytest.approx(total, rel=1e-5)


def test_focal_and_dice_are_least_where_the_map_is_right() -> None:
    _, target = maps_of()
    right = torch.nn.functional.one_hot(target, 3).permute(0, 3, 1, 2).float()
    other_type = right[:, [0, 2, 1]]  # every defect found, none told apart
    perfect, confused = level_losses(right, target), level_losses(other_type, target)
    assert [float(term) for term in perfect] == pytest.approx([0, 0, 0], abs=1e-4)
    assert float(confused[0]) > 1 and [float(term) for term in confused[1:]] == pytest.approx(
        [0, 0], abs=1e-4
    )
    missed = level_losses(right[:, [1, 0, 2]], target)
    assert min(float(term) for term in missed) > 0.2


def test_maps_align_the_corner_patches_with_the_corner_pixels() -> None:
    values = torch.arange(32.0).reshape(1, 16, 2)
    maps = class_maps(values, 13)
    assert maps.shape == (1, 2, 13, 13)
    for pixel, patch in ((0, 0), (12, 3)):
        for pixel_x, patch_x in ((0, 0), (12, 3)):
            assert torch.equal(maps[0, :, pixel, pixel_x], values[0, patch * 4 + patch_x])
    assert torch.allclose(maps[0, :, 4, 8], values[0, 4 + 2])  # every fourth pixel is a patch
    assert float(class_maps(values, 13, sigma=2.0).std()) < float(maps.std())


def test_foreground_of_soft_and_of_bool_masks() -> None:
    soft = torch.tensor([[[0.0, 0.4, 0.6, 1.0]]])
    assert foreground(soft, "threshold").tolist() == [[[False, False, True, True]]]
    assert foreground(soft, "truncate").tolist() == [[[False, False, False, True]]]
    square = torch.zeros(1, 7, 7, dtype=torch.bool)
    square[0, 1:6, 1:6] = True
    assert torch.equal(foreground(square, "threshold"), square)
    inner = torch.zeros_like(square)
    inner[0, 2:5, 2:5] = True
    assert torch.equal(foreground(square, "truncate"), inner)
    assert foreground(torch.ones(1, 3, 3, dtype=torch.bool), "truncate").all()  # the picture's rim is no rim
