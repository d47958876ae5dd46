import numpy as np
from PIL import Image

from flawline.evaluate.overlays import GAP, OUTLINE, PANEL, heat, heat_scale, outline, overlay


def test_three_panels_side_by_side():
    picture = overlay(Image.new("L", (40, 90)), None, np.zeros((8, 8), np.float32), (0.0, 1.0))
    assert picture.size == (3 * PANEL + 2 * GAP, PANEL)


def test_outline_runs_around_the_defect_and_leaves_it_visible():
    mask = np.zeros((32, 32), dtype=bool)
    mask[10:20, 12:22] = True
    photo = Image.new("RGB", (PANEL, PANEL), (90, 90, 90))
    pixels = np.asarray(outline(photo, mask))
    green = (pixels == OUTLINE).all(axis=2)
    rows, columns = np.flatnonzero(green.any(1)), np.flatnonzero(green.any(0))
    scale = PANEL / 32
    assert abs(rows[0] - 10 * scale) < 6 and abs(rows[-1] - 20 * scale) < 6
    assert abs(columns[0] - 12 * scale) < 6 and abs(columns[-1] - 22 * scale) < 6
    assert not green[int(15 * scale), int(17 * scale)]
    assert (np.asarray(photo) == 90).all()


def test_no_mask_draws_nothing():
    photo = Image.new("RGB", (PANEL, PANEL), (90, 90, 90))
    assert outline(photo, None) is photo
    assert outline(photo, np.zeros((4, 4), bool)) is photo


def test_heat_is_bright_where_the_map_is_high_and_clips():
    pixels = np.asarray(heat(np.asarray([[-9.0, 0.0, 0.5, 1.0, 9.0]]), (0.0, 1.0))).astype(int).sum(axis=2)[0]
    assert pixels[0] == pixels[1] < pixels[2] < pixels[3] == pixels[4]


def test_scale_is_one_for_all_maps_and_never_empty():
    assert heat_scale(np.full((2, 4, 4), 3.0)) == (3.0, 4.0)
    low, high = heat_scale(np.linspace(0, 1, 1000).reshape(10, 10, 10))
    assert 0.49 < low < 0.51 and high > 0.99
