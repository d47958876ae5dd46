"""Pictures made on the spot: an object on a plain ground, and textures that fill the picture."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from flawline.settings import Settings, SynthSettings, load_settings

ROOT = Path(__file__).resolve().parent.parent.parent
ALL = ("gaussian", "blocks", "stain", "shuffle", "paste", "line", "blur", "speckle", "dropout")


def eight_bit(picture: np.ndarray) -> np.ndarray:
    return (np.round(np.clip(picture, 0, 1) * 255) / 255).astype(np.float32)


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(7)


@pytest.fixture
def disc() -> tuple[np.ndarray, np.ndarray]:
    """A light, structured disc on a dark ground: the picture float32 [120, 160, 3] and where the disc is."""
    y, x = np.mgrid[:120, :160]
    where = (y - 62) ** 2 + (x - 80) ** 2 < 40**2
    noise = np.random.default_rng(0).normal(0, 0.01, (120, 160, 1))
    ground = np.array([0.2, 0.22, 0.25]) + noise
    body = np.array([0.7, 0.65, 0.6]) + 0.1 * np.sin(x / 3.0)[..., None] + noise
    return eight_bit(np.where(where[..., None], body, ground)), where


@pytest.fixture
def texture() -> np.ndarray:
    """A woven pattern that fills the picture."""
    y, x = np.mgrid[:128, :128]
    weave = 0.5 + 0.2 * np.sin(x / 2.0) * np.sin(y / 2.5)
    noise = np.random.default_rng(1).normal(0, 0.03, (128, 128, 3))
    return eight_bit(weave[..., None] * np.array([1.0, 0.9, 0.7]) + noise)


@pytest.fixture
def plain() -> np.ndarray:
    """One grey, nothing to see: the hardest surface for blur, shuffle and paste."""
    return eight_bit(np.full((96, 96, 3), 0.5))


@pytest.fixture
def synth_settings() -> Callable[..., SynthSettings]:
    """`synth_settings(noises=…)`: the repository's section with changes."""
    base = load_settings(ROOT / "params.yaml").synth

    def changed(**given: object) -> SynthSettings:
        return SynthSettings.model_validate(base.model_dump() | {"noises": dict.fromkeys(ALL, 1.0)} | given)

    return changed


@pytest.fixture
def settings() -> Settings:
    return load_settings(ROOT / "params.yaml")
