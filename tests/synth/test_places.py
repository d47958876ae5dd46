"""Keys of synth.noises: which noise, in which shape."""

from collections.abc import Callable

import numpy as np
import pytest

from flawline.errors import FlawlineError
from flawline.settings import SynthSettings
from flawline.synth.noises import BANK
from flawline.synth.places import PLACES, check_noises, noise_of, region

Make = Callable[..., SynthSettings]


def kinds(key: str, inside: np.ndarray, settings: SynthSettings) -> set[str]:
    rng = np.random.default_rng(0)
    drawn = [region(key, inside, settings, rng) for _ in range(30)]
    return {one.kind for one in drawn if one is not None}


@pytest.mark.parametrize(
    ("key", "expected"),
    [
        ("gaussian", {"blob", "ellipse", "box"}),
        ("line", {"scratch"}),
        ("line@box", {"box"}),
        ("gaussian@ellipse", {"ellipse"}),
        ("gaussian@scratch", {"scratch"}),
        ("shuffle@perlin", {"perlin"}),
        ("stain@object", {"object"}),
        ("oagm_full", {"object"}),
        ("oagm_region", {"perlin", "mixed"}),
        ("oagm_region@blob", {"blob"}),
    ],
)
def test_shapes_follow_the_key(
    disc: tuple[np.ndarray, np.ndarray], synth_settings: Make, key: str, expected: set[str]
) -> None:
    assert kinds(key, disc[1], synth_settings()) == expected


def test_every_noise_goes_with_every_shape(synth_settings: Make) -> None:
    check_noises(synth_settings(noises={f"{noise}@{shape}": 1.0 for noise in BANK for shape in PLACES}))
    assert noise_of("salt_pepper@perlin") == noise_of("salt_pepper") == "salt_pepper"


@pytest.mark.parametrize("key", ["perlin", "gaussian@", "gaussian@moon", "@patch", "gaussian@patch@box"])
def test_what_there_is_not_is_refused_by_name(synth_settings: Make, key: str) -> None:
    with pytest.raises(FlawlineError, match=r"synth\.noises.*there is no (noise|shape)"):
        check_noises(synth_settings(noises={key: 1.0}))
