"""Which shape of region a noise is put into.

A key of `synth.noises` is the name of a noise, or `noise@shape` for a noise in regions of one shape: so
`gaussian@scratch: 1` is Gaussian noise along scratches. A noise alone has the shape that suits it: `line` lies on
scratches, `oagm_full` covers the object, `oagm_region` a part of it as in OAGM (1 to 3 gives the mix of the
reconstruction: a quarter on the whole object), every other a compact shape of `synth.area`.
"""

from collections.abc import Callable

import numpy as np

from flawline.errors import FlawlineError
from flawline.settings import SynthSettings
from flawline.synth.noises import BANK
from flawline.synth.regions import (
    LEAST_SHARE,
    Region,
    oagm_object,
    oagm_region,
    patch,
    perlin,
    scratch,
    whole_object,
)
from flawline.synth.shapes import Rng

AT = "@"
Place = Callable[[np.ndarray, SynthSettings, Rng], Region | None]


def _compact(*kinds: str) -> Place:
    def place(inside: np.ndarray, settings: SynthSettings, rng: Rng) -> Region | None:
        # on a small object: at least what a patch can show
        needed = 1.5 * LEAST_SHARE["patch"] * inside.size / float(inside.sum())
        low, high = (min(1.0, max(limit, needed)) for limit in settings.area)
        share = float(np.exp(rng.uniform(np.log(low), np.log(high))))  # small ones as often as large ones
        return patch(inside, share, rng, kinds) if kinds else patch(inside, share, rng)

    return place


PLACES: dict[str, Place] = {
    "patch": _compact(),
    "blob": _compact("blob"),
    "ellipse": _compact("ellipse"),
    "box": _compact("box"),
    "perlin": lambda inside, settings, rng: perlin(inside, rng),
    "scratch": lambda inside, settings, rng: scratch(inside, rng),
    "object": lambda inside, settings, rng: whole_object(inside),
}
_OWN: dict[str, Place] = {
    "line": PLACES["scratch"],
    "oagm_full": lambda inside, settings, rng: oagm_object(inside),
    "oagm_region": lambda inside, settings, rng: oagm_region(inside, rng),
}


def noise_of(key: str) -> str:
    """The noise of a key of `synth.noises`: `gaussian` of `gaussian@scratch`."""
    return key.partition(AT)[0]


def region(key: str, inside: np.ndarray, settings: SynthSettings, rng: Rng) -> Region | None:
    """A region for a key of `synth.noises` in the object `inside` [H, W]; None where it came out too small."""
    noise, _, shape = key.partition(AT)
    place = PLACES[shape] if shape else _OWN.get(noise, PLACES["patch"])
    return place(inside, settings, rng)


def check_noises(settings: SynthSettings) -> None:
    """Raise FlawlineError for a noise that the bank does not have, or a shape that there is not."""
    for key in settings.noises:
        noise, at, shape = key.partition(AT)
        if noise not in BANK:
            raise FlawlineError(f"synth.noises: there is no noise '{noise}'", f"there are {', '.join(BANK)}")
        if at and shape not in PLACES:
            raise FlawlineError(
                f"synth.noises.{key}: there is no shape '{shape}'", f"there are {', '.join(PLACES)}"
            )
