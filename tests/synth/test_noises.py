"""What single noises are for, beyond being visible."""

import numpy as np

from flawline.synth.noises import BANK, line, shuffle, stain
from flawline.synth.regions import Region, feathered
from flawline.synth.shapes import cell_noise, grain, smooth_noise


def region_of(shape: tuple[int, ...]) -> Region:
    mask = np.zeros(shape[:2], dtype=bool)
    mask[20:70, 30:90] = True
    return Region(feathered(mask, 1.0), mask, "box")


def test_noises_keep_shape_and_leave_their_input_alone(texture: np.ndarray, rng: np.random.Generator) -> None:
    region = region_of(texture.shape)
    for name, noise in BANK.items():
        before = texture.copy()
        out = noise(texture, region, rng)
        assert out.shape == texture.shape and np.isfinite(out).all(), name
        assert np.array_equal(texture, before), name


def test_shuffle_moves_every_tile_but_keeps_the_rest(texture: np.ndarray, rng: np.random.Generator) -> None:
    region = region_of(texture.shape)
    out = shuffle(texture, region, rng)
    outside = ~region.mask
    assert np.array_equal(out[outside], texture[outside])
    assert not np.allclose(out[region.mask], texture[region.mask])


def test_lines_contrast_with_what_lies_below(rng: np.random.Generator) -> None:
    for level in (0.05, 0.95):
        flat = np.full((96, 96, 3), level, dtype=np.float32)
        out = line(flat, region_of(flat.shape), rng)
        assert abs(float(out.mean()) - level) > 0.3


def test_stains_are_visible_on_dark_and_light(rng: np.random.Generator) -> None:
    for level in (0.3, 0.9):
        flat = np.full((96, 96, 3), level, dtype=np.float32)
        region = region_of(flat.shape)
        changes = [np.abs(stain(flat, region, rng) - flat)[region.mask].mean() for _ in range(20)]
        assert np.median(changes) > 0.1


def test_noise_fields_have_their_scale(rng: np.random.Generator) -> None:
    smooth = smooth_noise((200, 150), 12.0, rng)
    assert smooth.shape == (200, 150) and abs(float(smooth.mean())) < 1e-3
    assert 0.9 < float(smooth.std()) < 1.1
    assert np.abs(np.diff(smooth, axis=0)).mean() < 0.25
    cells = cell_noise((50, 40), 5, 3, rng)
    assert cells.shape == (50, 40, 3)
    changes = (np.diff(cells[..., 0], axis=0) != 0).any(axis=1)
    assert 9 <= changes.sum() <= 10 and set(np.diff(np.flatnonzero(changes))) == {5}


def test_a_grain_grows_with_the_picture() -> None:
    assert grain((100, 90)) == 1.0 and grain((512, 300)) == 2.0
