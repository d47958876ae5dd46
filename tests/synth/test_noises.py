"""What single noises are for, beyond being visible."""

import numpy as np

from flawline.synth.noises import (
    BANK,
    line,
    low_frequency,
    missing,
    oagm,
    salt_pepper,
    sharpen,
    shuffle,
    stain,
    uniform,
)
from flawline.synth.regions import Region, feathered
from flawline.synth.shapes import cell_noise, grain, perlin_noise, smooth_noise


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


def test_uniform_noise_has_an_edge_and_gaussian_has_none(rng: np.random.Generator) -> None:
    flat = np.full((128, 128, 3), 0.5, dtype=np.float32)
    region = region_of(flat.shape)
    even = uniform(flat, region, rng) - flat
    assert np.abs(even).max() <= 0.5 and np.abs(even).max() < 1.8 * even.std()
    independent = oagm(flat, region, rng) - flat
    assert np.abs(independent).max() > 3 * independent.std() and 0.1 < independent.std() < 0.6
    assert not np.allclose(independent[..., 0], independent[..., 1])


def test_salt_and_pepper_is_black_or_white_and_the_rest_is_left(rng: np.random.Generator) -> None:
    flat = np.full((128, 128, 3), 0.5, dtype=np.float32)
    shares = []
    for _ in range(12):
        out = salt_pepper(flat, region_of(flat.shape), rng)
        assert set(np.unique(out)) <= {0.0, 0.5, 1.0}
        shares.append((out[..., 0] != 0.5).mean())
        assert 0.3 < (out == 1.0).sum() / (out != 0.5).sum() < 0.7
    assert min(shares) > 0.01 and max(shares) < 0.32 and np.ptp(shares) > 0.1


def test_low_frequency_noise_is_smooth_and_of_one_tint(rng: np.random.Generator) -> None:
    flat = np.full((128, 128, 3), 0.5, dtype=np.float32)
    change = low_frequency(flat, region_of(flat.shape), rng) - flat
    assert np.abs(np.diff(change, axis=0)).mean() < 0.6 * np.abs(change).mean()
    assert np.linalg.matrix_rank(change.reshape(-1, 3), tol=1e-3) == 1


def test_sharpening_exaggerates_structure_and_leaves_plain_surfaces(
    texture: np.ndarray, plain: np.ndarray, rng: np.random.Generator
) -> None:
    assert sharpen(texture, region_of(texture.shape), rng).std() > 1.5 * texture.std()
    assert np.allclose(sharpen(plain, region_of(plain.shape), rng), plain, atol=1e-4)


def test_a_missing_part_looks_like_its_surroundings(rng: np.random.Generator) -> None:
    """A dark insert in a light, striped ground disappears."""
    _, x = np.mgrid[:96, :128]
    picture = np.repeat((0.7 + 0.1 * np.sin(x / 3.0))[..., None], 3, axis=-1).astype(np.float32)
    region = region_of(picture.shape)
    picture[region.mask] = 0.1
    texture_kept = 0
    for _ in range(20):
        out = missing(picture, region, rng)[region.mask]
        assert out.mean() > 0.55
        texture_kept += out.std() > 0.05
    assert 4 <= texture_kept <= 16  # the others are the mean colour


def test_perlin_fields_are_centred_smooth_and_of_several_scales(rng: np.random.Generator) -> None:
    fields = [perlin_noise((120, 90), rng) for _ in range(24)]
    assert all(field.shape == (120, 90) and np.abs(field).max() <= 1.01 for field in fields)
    assert abs(np.mean([field.mean() for field in fields])) < 0.1
    rough = [np.abs(np.diff(field, axis=0)).mean() for field in fields]
    assert max(rough) > 5 * min(rough)
    fine = perlin_noise((120, 90), rng, octaves=(4, 5))  # 16 cells an axis: zero at every corner of a cell
    assert np.abs(fine[0, 0]) < 1e-6 and np.abs(np.diff(fine, axis=0)).max() < 0.5
