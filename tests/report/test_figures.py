import base64
import io
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from flawline.report.figures import DARK, LEGEND_INSIDE, LIGHT, Line, mean_curve, plot


def opened(source):
    return Image.open(io.BytesIO(base64.b64decode(source.split(",", 1)[1])))


def drawn(**changes):
    lines = [Line([0, 1], [0, 1], "words", 0), Line([0, 0.5, 1], [0, 0.9, 1], "$x_1$ ä", 1)]
    return plot(lines, "two lines", "x", "y", "title", **changes)


def test_same_data_same_bytes():
    assert drawn() == drawn()


def test_pictures_carry_no_program_no_date():
    one = opened(drawn().light)
    assert set(one.info) <= {"dpi"} and one.size == (660, 525)


def test_each_theme_has_its_ground():
    picture = drawn()
    for source, theme in ((picture.light, LIGHT), (picture.dark, DARK)):
        corner = opened(source).convert("RGB").getpixel((2, 2))
        assert "#{:02x}{:02x}{:02x}".format(*corner) == theme.ground


def test_a_users_matplotlib_settings_change_nothing():
    import matplotlib

    before = drawn()
    with matplotlib.rc_context(
        {"font.size": 30, "lines.linewidth": 9, "axes.prop_cycle": matplotlib.cycler(color="r")}
    ):
        assert drawn() == before


def test_mean_curve_of_steps():
    first = ([0.0, 0.0, 0.5, 1.0], [0.0, 0.4, 0.4, 1.0])
    second = ([0.0, 0.0, 1.0], [0.0, 0.8, 1.0])
    assert mean_curve([first], np.asarray([0.0, 0.5, 1.0])).tolist() == pytest.approx([0.4, 0.4, 1.0])
    assert mean_curve([first, second], np.asarray([0.0]))[0] == pytest.approx(0.6)


def many(count):
    return [Line([0, 1], [0, 1], f"method {number}", number) for number in range(count)]


def test_a_long_legend_stands_below_the_axes():
    inside, below = (plot(many(count), "lines", "x", "y") for count in (LEGEND_INSIDE, 9))
    assert (inside.width, inside.height) == opened(inside.light).size == (660, 525)
    assert (below.width, below.height) == opened(below.dark).size and below.height > inside.height


def test_a_band_is_drawn_around_its_line():
    line = Line([0, 1], [0.5, 0.5], "a", 1)
    banded = replace(line, band=([0.2, 0.2], [0.8, 0.8]))
    bare, shaded = (
        opened(plot([one], "a", "x", "y", y_limits=(0, 1)).light).convert("RGB") for one in (line, banded)
    )
    place = (330, 160)  # above the line, inside the band
    ground = tuple(int(LIGHT.ground[k : k + 2], 16) for k in (1, 3, 5))
    assert bare.getpixel(place) == ground and shaded.getpixel(place) != ground
