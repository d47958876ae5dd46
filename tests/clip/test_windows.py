"""Windows as short sequences, against the full sequence under a mask; harmonic means against plain loops."""

from collections.abc import Callable
from statistics import harmonic_mean

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from flawline.clip import windows as module
from flawline.clip.backbone import Backbone
from flawline.clip.image_path import encode_image
from flawline.clip.windows import encode_windows, spread, windows
from flawline.errors import FlawlineError
from flawline.settings import ImagePath


def pictures(count: int = 2, side: int = 32) -> Tensor:
    return torch.randn(count, 3, side, side, generator=torch.Generator().manual_seed(0))


def masked(backbone: Backbone, images: Tensor, places: Tensor) -> Tensor:
    """The paper's way: every token runs, but a window's tokens and the class token see only each other."""
    visual = backbone.visual
    found = []
    for place in places.tolist():
        shown = [0, *(1 + number for number in place)]
        mask = torch.full((backbone.grid**2 + 1,) * 2, float("-inf"))
        mask[:, shown] = 0.0
        x = visual._embeds(images)
        for block in visual.transformer.resblocks:
            x = block(x, attn_mask=mask)
        pooled, _ = visual._pool(x[:, shown])
        found.append(F.normalize(pooled @ visual.proj, dim=-1))
    return torch.stack(found, 1)


@pytest.mark.parametrize("shape", ["tok", "avg", "avg-ln-after", "layerscale", "quickgelu"])
@pytest.mark.parametrize("side", [1, 2, 3])
def test_a_short_sequence_is_the_masked_tower(
    backbone_of: Callable[..., Backbone], shape: str, side: int
) -> None:
    backbone, places = backbone_of(shape), windows(4, side)
    with torch.no_grad():
        want = masked(backbone, pictures(), places)
    found = encode_windows(backbone, pictures(), places)
    assert found.shape == (2, (5 - side) ** 2, backbone.dim)
    assert torch.allclose(found, want, atol=1e-5)


@pytest.mark.parametrize("shape", ["tok", "avg"])
def test_one_window_over_everything_is_the_image_feature(
    backbone_of: Callable[..., Backbone], shape: str
) -> None:
    backbone = backbone_of(shape)
    whole = encode_windows(backbone, pictures(), windows(4, 4))[:, 0]
    assert torch.allclose(whole, encode_image(backbone, pictures(), {"p": ImagePath()})["p"].cls, atol=1e-5)


def test_a_window_sees_nothing_outside(backbone_of: Callable[..., Backbone]) -> None:
    backbone, places = backbone_of("tok"), windows(4, 2)
    changed = pictures()
    changed[:, :, :8, :8] += 1.0  # patch 0 alone
    before, after = (encode_windows(backbone, images, places) for images in (pictures(), changed))
    moved = (before - after).abs().amax(dim=(0, 2)) > 1e-6
    assert moved.tolist() == [0 in place for place in places.tolist()]


def test_windows_do_not_depend_on_batches(
    backbone_of: Callable[..., Backbone], monkeypatch: pytest.MonkeyPatch
) -> None:
    backbone, places = backbone_of("avg"), windows(4, 2)
    want = encode_windows(backbone, pictures(3), places)
    for most in (1, 64):
        monkeypatch.setattr(module, "_TOKENS", most)
        assert torch.allclose(encode_windows(backbone, pictures(3), places), want, atol=1e-5)
    alone = encode_windows(backbone, pictures(3)[1:2], places)
    assert torch.allclose(alone[0], want[1], atol=1e-5)


def test_windows_are_counted_in_raster_order() -> None:
    assert windows(3, 2).tolist() == [[0, 1, 3, 4], [1, 2, 4, 5], [3, 4, 6, 7], [4, 5, 7, 8]]
    assert windows(15, 2).shape == (196, 4) and windows(15, 3).shape == (169, 9)  # the paper's grid


@pytest.mark.parametrize(
    ("grid", "side", "stride"), [(15, 3, 2), (16, 3, 2), (8, 2, 5), (5, 5, 3), (7, 1, 2)]
)
def test_windows_further_apart_still_cover_every_patch(grid: int, side: int, stride: int) -> None:
    places = windows(grid, side, stride)
    assert set(places.flatten().tolist()) == set(range(grid * grid))
    every = set(map(tuple, windows(grid, side).tolist()))
    assert set(map(tuple, places.tolist())) <= every and len(set(map(tuple, places.tolist()))) == len(places)
    if side > 1 and grid > side:
        assert len(places) < len(every)


def test_a_window_that_does_not_fit_is_refused() -> None:
    with pytest.raises(FlawlineError, match="window of 5x5 patches does not fit an image of 4x4"):
        windows(4, 5)


def test_spread_is_the_harmonic_mean_of_the_windows_over_a_patch() -> None:
    places = windows(4, 2)
    scores = torch.rand(3, len(places), generator=torch.Generator().manual_seed(0))
    found = spread(scores, places, 16)
    for b in range(3):
        for patch in range(16):
            covering = [float(scores[b, k]) for k, place in enumerate(places.tolist()) if patch in place]
            assert float(found[b, patch]) == pytest.approx(harmonic_mean(covering), rel=1e-5)


def test_one_window_without_anomaly_clears_its_patches() -> None:
    places = windows(3, 2)
    found = spread(torch.tensor([[0.0, 0.5, 0.5, 0.5]]), places, 9)[0]
    assert found.isfinite().all()
    assert (found[places[0]] < 1e-30).all()
    rest = [k for k in range(9) if k not in places[0].tolist()]
    assert torch.allclose(found[rest], torch.full((len(rest),), 0.5))
