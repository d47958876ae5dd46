"""The picture that `flawline score --out` writes."""

import numpy as np
from PIL import Image

from flawline.cli.overlay import heat, scale_of, side_by_side


def test_heat_rises_in_lightness_and_clips() -> None:
    values = np.array([[-1.0, 0.0, 0.25, 0.5, 0.75, 1.0, 2.0]], dtype=np.float32)
    colours = heat(values)
    assert colours.shape == (1, 7, 3) and colours.dtype == np.uint8
    lightness = colours[0].astype(float) @ [0.2126, 0.7152, 0.0722]
    assert np.all(np.diff(lightness[1:6]) > 20)
    assert np.array_equal(colours[0, 0], colours[0, 1]) and np.array_equal(colours[0, 5], colours[0, 6])
    assert np.array_equal(heat(np.full((1, 1), np.nan)), heat(np.zeros((1, 1))))


def test_the_image_stands_left_and_its_map_right() -> None:
    image = Image.new("RGB", (60, 40), (10, 200, 30))
    values = np.zeros((8, 8), dtype=np.float32)
    values[:, 4:] = 1.0
    sheet = np.asarray(side_by_side(image, values, (0.0, 1.0)))
    assert sheet.shape == (40, 2 * 60 + 4, 3)
    assert (sheet[:, :60] == (10, 200, 30)).all()
    right = sheet[:, 64:].astype(int).sum(axis=-1)
    assert right[:, -5:].min() > right[:, :5].max() + 100


def test_a_large_image_is_reduced_and_keeps_its_shape() -> None:
    sheet = side_by_side(
        Image.new("RGB", (3000, 1000)), np.zeros((4, 4), dtype=np.float32), (0.0, 1.0), longest=300
    )
    assert sheet.size == (604, 100)


def test_the_image_itself_is_not_changed() -> None:
    image = Image.new("RGB", (2000, 10))
    side_by_side(image, np.zeros((2, 2), dtype=np.float32), (0.0, 1.0))
    assert image.size == (2000, 10)


def test_one_scale_for_many_maps_keeps_noise_dark() -> None:
    rng = np.random.default_rng(0)
    good = [rng.uniform(0.20, 0.22, (32, 32)).astype(np.float32) for _ in range(4)]
    low, high = scale_of(good)
    assert 0.20 < low < 0.22 and high == low + 0.1
    bad = good[0].copy()
    bad[:8, :8] = 0.9
    assert scale_of([*good, bad])[1] > 0.85
