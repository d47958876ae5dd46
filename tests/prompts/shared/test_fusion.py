import pytest
import torch

from flawline.prompts.shared.fusion import FORMULAS, fuse


@pytest.mark.parametrize(
    ("how", "expected"), [("mean", 0.65), ("harmonic", 1 / (1 / 0.5 + 1 / 0.8)), ("image", 0.5), ("map", 0.8)]
)
def test_image_and_highest_pixel_become_one_score(how: str, expected: float) -> None:
    maps = torch.zeros(1, 8, 8)
    maps[0, 3, 3] = 0.8
    assert float(fuse(torch.tensor([0.5]), maps, how)) == pytest.approx(expected)  # type: ignore[arg-type]
    assert how in FORMULAS


@pytest.mark.parametrize("how", list(FORMULAS))
def test_scores_stay_in_0_to_1_also_at_the_ends(how: str) -> None:
    image = torch.tensor([0.0, 0.0, 1.0, 1.0, 0.3])
    maps = torch.tensor([0.0, 1.0, 0.0, 1.0, 0.7])[:, None, None].expand(5, 4, 4)
    scores = fuse(image, maps, how)  # type: ignore[arg-type]
    assert bool(((scores >= 0) & (scores <= 1)).all()) and not bool(scores.isnan().any())
