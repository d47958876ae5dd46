"""Drift: how often calm streams are called drifting, and what is noticed."""

import numpy as np
import pytest

from flawline.settings.watch import WatchSettings
from flawline.watch.bank import Reference
from flawline.watch.drift import drift

PRODUCTS = 3


def stream(random: np.random.Generator, product: int, count: int, shift: float = 0.0, more: float = 0.0):
    """Scores and unit features of good images of a product; `shift` moves the looks, `more` the scores."""
    centre = np.zeros(32)
    centre[product] = 1
    centre[10] = shift
    rows = centre + random.normal(0, 0.03 * (1 + product), (count, 32))  # products vary by different amounts
    scores = random.normal(0.2 + 0.05 * product + more, 0.03, count)
    return scores, rows / np.linalg.norm(rows, axis=1, keepdims=True)


def reference(random: np.random.Generator) -> Reference:
    parts = [stream(random, product, 24) for product in range(PRODUCTS)]
    names = np.repeat([f"set/{k}" for k in range(PRODUCTS)], 24)
    return Reference(np.concatenate([s for s, _ in parts]), np.concatenate([r for _, r in parts]), names)


def seen(seed: int, shift: float = 0.0, more: float = 0.0, products: tuple[int, ...] = (0, 1, 2)):
    random = np.random.default_rng(seed)
    known = reference(random)
    parts = [stream(random, product, 64 // len(products), shift, more) for product in products]
    scores, rows = (np.concatenate(side) for side in zip(*parts, strict=True))
    return drift(scores, rows, known, 0.9, WatchSettings())


def test_a_calm_stream_is_seldom_called_drifting() -> None:
    assert sum(seen(seed).drifted for seed in range(100)) <= 1


def test_another_mixture_of_products_is_no_drift() -> None:
    assert sum(seen(seed, products=(seed % 3,)).drifted for seed in range(100)) <= 3


@pytest.mark.parametrize(("change", "what"), [({"shift": 0.3}, "looks"), ({"more": 0.05}, "scores")])
def test_what_changed_is_noticed_and_named(change: dict[str, float], what: str) -> None:
    found = [seen(seed, **change) for seed in range(20)]
    assert all(one.drifted for one in found)
    assert all(what in [shift.what for shift in one.shifts if shift.drifted] for one in found)
    assert f"drift of the {what}" in found[0].text or "looks and scores" in found[0].text


def test_too_little_to_judge_is_said() -> None:
    random = np.random.default_rng(0)
    scores, rows = stream(random, 0, 20)
    known = reference(random)
    watch = WatchSettings()
    assert "20 good images so far, 32 are needed" in drift(scores, rows, known, 0.9, watch).text
    assert "no labelled good images" in drift(scores, rows, None, 0.9, watch).text
    assert (
        "only 0 labelled good images are under the threshold" in drift(scores, rows, known, 0.01, watch).text
    )
    assert drift(np.zeros(0), np.zeros((0, 0)), known, 0.9, watch).why
