"""The contact sheet shows what it is given."""

import numpy as np

from flawline.synth.contact_sheet import OUTLINE, TILE, Example, contact_sheet, pick


def example(shape: tuple[int, int] = (60, 100)) -> Example:
    image = np.full((*shape, 3), 90, dtype=np.uint8)
    inside = np.zeros(shape, dtype=bool)
    inside[20:40, 30:70] = True
    synthetic = image.copy()
    synthetic[25:35, 40:60] = (250, 10, 10)
    mask = np.zeros(shape, dtype=bool)
    mask[25:35, 40:60] = True
    return Example(image, inside, synthetic, mask, "part: stain, 10% of the object (otsu)")


def test_every_example_is_there_with_outline_and_anomaly() -> None:
    one = np.asarray(contact_sheet([example()]))
    four = np.asarray(contact_sheet([example(), example((300, 200)), example(), example()]))
    assert four.shape[0] > 1.8 * one.shape[0] and four.shape[1] > 2.5 * one.shape[1]
    assert one.shape[1] >= 4 * TILE
    assert (np.abs(one.astype(int) - np.array(OUTLINE)).sum(axis=-1) < 60).sum() > 40
    red = (one[..., 0] > 220) & (one[..., 1] < 60) & (one[..., 2] < 60)
    assert red.sum() > 100


def test_the_same_examples_make_the_same_picture() -> None:
    assert contact_sheet([example()]).tobytes() == contact_sheet([example()]).tobytes()


def test_pick_spreads_evenly() -> None:
    assert pick(3, 24) == [0, 1, 2]
    assert pick(0, 24) == []
    chosen = pick(1000, 24)
    assert len(set(chosen)) == 24 and chosen[0] == 0 and chosen[-1] == 999
    assert max(np.diff(chosen)) - min(np.diff(chosen)) <= 1
