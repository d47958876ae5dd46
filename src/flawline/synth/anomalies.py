"""One synthetic anomaly: a region of the object, a noise of the bank, and the mask of what changed."""

import numpy as np

from flawline.errors import FlawlineError
from flawline.settings import SynthSettings
from flawline.synth.blend import blend, visible
from flawline.synth.noises import BANK, ON_WHOLE_OBJECT, OPAQUE
from flawline.synth.places import check_noises, noise_of
from flawline.synth.places import region as placed
from flawline.synth.regions import whole_object
from flawline.synth.shapes import Rng, grey

_TRIES = 60
_GREY = 0.01  # mean spread of the channels
# tries before another noise is drawn: some cannot show on some surfaces (blur on a plain one)
_KEEP_NOISE = 6


def make_anomaly(
    image: np.ndarray, object_mask: np.ndarray, settings: SynthSettings, rng: Rng
) -> tuple[np.ndarray, np.ndarray, str, float]:
    """Put one random anomaly on the object.

    Args:
        image: float32 [H, W, 3] in 0..1 (multiples of 1/255, as read from a file).
        object_mask: bool [H, W], not empty.
        settings: weights of the noises, area range, opacity range, share of whole objects.
        rng: the only source of chance.

    Returns:
        The picture with the anomaly (float32 [H, W, 3], multiples of 1/255), the mask bool [H, W] of what
        visibly changed, the noise's name, and the mask's share of the object's area. Outside the mask the
        picture is unchanged.

    Raises:
        FlawlineError: no anomaly could be made visible (an object of a few pixels), or a noise has no such
            name.
    """
    check_noises(settings)
    area = float(object_mask.sum())
    names = sorted(name for name, weight in settings.noises.items() if weight > 0)
    whole = rng.random() < settings.full_object_share and any(name in ON_WHOLE_OBJECT for name in names)
    colourless = float(np.ptp(image, axis=-1).mean()) < _GREY  # colour on a grey picture would give it away
    noise = ""
    for attempt in range(_TRIES):
        whole = whole and attempt < 2 * _KEEP_NOISE
        if attempt % _KEEP_NOISE == 0:
            noise = _draw(settings, [name for name in names if not whole or name in ON_WHOLE_OBJECT], rng)
        if attempt == _TRIES - _KEEP_NOISE:
            noise = "gaussian"  # what shows on every surface, whatever the settings leave out
        region = whole_object(object_mask) if whole else placed(noise, object_mask, settings, rng)
        if region is None:
            continue
        content = BANK[noise_of(noise)](image, region, rng).astype(np.float32)
        if colourless:
            content = np.repeat(grey(content)[..., None], 3, axis=-1)
        opacity = (
            1.0 if noise_of(noise) in OPAQUE else float(rng.uniform(settings.opacity[0], settings.opacity[1]))
        )
        changed = blend(image, content, region, opacity)
        mask = visible(image, changed, region)
        if mask is not None:
            out = np.where(mask[..., None], changed, image).astype(np.float32)
            return out, mask, noise_of(noise), float(mask.sum()) / area
    raise FlawlineError(
        f"no synthetic anomaly could be made visible on an object of {int(area)} pixels in a picture of "
        f"{image.shape[1]}x{image.shape[0]}",
        "raise synth.area or synth.opacity, or set synth.object_mask to whole",
    )


def _draw(settings: SynthSettings, names: list[str], rng: Rng) -> str:
    weights = np.array([settings.noises[name] for name in names], dtype=np.float64)
    return names[int(rng.choice(len(names), p=weights / weights.sum()))]
