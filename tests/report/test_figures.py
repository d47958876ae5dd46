import base64
import io

import numpy as np
import pytest
from PIL import Image

from flawline.report.figures import DARK, LIGHT, Line, mean_curve, plot


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
