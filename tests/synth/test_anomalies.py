"""The promise of the masks: outside nothing changed, inside it visibly did; chance comes from the rng."""

from collections.abc import Callable

import numpy as np
import pytest
from scipy import ndimage

from flawline.errors import FlawlineError
from flawline.settings import Settings, SynthSettings
from flawline.synth.anomalies import make_anomaly
from flawline.synth.blend import LEAST_MEAN_CHANGE, VISIBLE
from flawline.synth.noises import BANK, ON_WHOLE_OBJECT
from flawline.synth.places import PLACES

Make = Callable[..., SynthSettings]
NOISES_OF_THE_DEMO = {
    "gaussian": 1.0,
    "stain": 2.0,
    "line": 4.0,
    "dropout": 2.0,
    "paste": 1.0,
    "shuffle": 1.0,
}
RECORDED = [
    ("gaussian", 0.0243), ("stain", 0.0313), ("gaussian", 1.0), ("gaussian", 1.0), ("line", 0.0166),
    ("shuffle", 0.0391), ("line", 0.0211), ("stain", 0.1177), ("stain", 0.0381), ("line", 0.0253),
    ("gaussian", 0.138), ("stain", 1.0), ("stain", 1.0), ("stain", 0.1097),
]  # fmt: skip


SPARSE = {"salt_pepper": 0.6}  # single grains stand apart: what lies between them is closed, and is unchanged


def check(
    image: np.ndarray, inside: np.ndarray, out: np.ndarray, mask: np.ndarray, seen: float = 0.85
) -> None:
    assert out.dtype == np.float32 and out.shape == image.shape and mask.dtype == bool
    assert out.min() >= 0 and out.max() <= 1
    assert mask.any() and not (mask & ~inside).any()
    assert np.array_equal(out[~mask], image[~mask])  # outside: bit by bit
    change = np.abs(out - image).max(axis=-1)
    near = ndimage.maximum_filter(change, size=3)
    assert (near[mask] >= VISIBLE - 1e-6).mean() > seen  # inside: visibly, small closed holes apart
    assert change[mask].mean() > 0.8 * LEAST_MEAN_CHANGE
    assert np.abs(out * 255 - np.round(out * 255)).max() < 1e-3  # what a PNG can hold


@pytest.mark.parametrize("noise", BANK)
def test_every_noise_keeps_the_promise_on_an_object(
    disc: tuple[np.ndarray, np.ndarray], synth_settings: Make, noise: str
) -> None:
    image, inside = disc
    settings = synth_settings(noises={noise: 1.0}, full_object_share=0.0)
    for seed in range(6):
        out, mask, name, area = make_anomaly(image, inside, settings, np.random.default_rng(seed))
        check(image, inside, out, mask, SPARSE.get(noise, 0.85))
        assert name == noise
        assert area == pytest.approx(mask.sum() / inside.sum())
        assert area > 0.6 if noise == "oagm_full" else area < 0.3


@pytest.mark.parametrize("noise", BANK)
def test_every_noise_keeps_the_promise_on_a_texture(
    texture: np.ndarray, synth_settings: Make, noise: str
) -> None:
    inside = np.ones(texture.shape[:2], dtype=bool)
    settings = synth_settings(noises={noise: 1.0}, full_object_share=0.0)
    for seed in range(3):
        out, mask, _, _ = make_anomaly(texture, inside, settings, np.random.default_rng(seed))
        check(texture, inside, out, mask, SPARSE.get(noise, 0.85))


def test_something_shows_even_on_a_plain_surface(plain: np.ndarray, synth_settings: Make) -> None:
    inside = np.ones(plain.shape[:2], dtype=bool)
    for noise in ("shuffle", "blur", "paste"):
        out, mask, _, _ = make_anomaly(
            plain, inside, synth_settings(noises={noise: 1.0}), np.random.default_rng(2)
        )
        check(plain, inside, out, mask)


def test_chance_comes_from_the_generator_alone(
    disc: tuple[np.ndarray, np.ndarray], synth_settings: Make
) -> None:
    image, inside = disc
    runs = [make_anomaly(image, inside, synth_settings(), np.random.default_rng(s)) for s in (4, 4, 5)]
    np.random.seed(1)
    again = make_anomaly(image, inside, synth_settings(), np.random.default_rng(4))
    for other in (runs[1], again):
        assert np.array_equal(runs[0][0], other[0]) and np.array_equal(runs[0][1], other[1])
        assert runs[0][2:] == other[2:]
    assert not np.array_equal(runs[0][1], runs[2][1])


def test_inputs_are_left_alone(disc: tuple[np.ndarray, np.ndarray], synth_settings: Make) -> None:
    image, inside = disc
    before = image.copy(), inside.copy()
    for seed in range(12):
        make_anomaly(image, inside, synth_settings(), np.random.default_rng(seed))
    assert np.array_equal(image, before[0]) and np.array_equal(inside, before[1])


def test_noises_come_with_their_weights(disc: tuple[np.ndarray, np.ndarray], synth_settings: Make) -> None:
    image, inside = disc
    settings = synth_settings(noises={"gaussian": 3.0, "stain": 1.0, "line": 0.0}, full_object_share=0.0)
    names = [make_anomaly(image, inside, settings, np.random.default_rng(seed))[2] for seed in range(80)]
    assert set(names) == {"gaussian", "stain"}
    assert 45 <= names.count("gaussian") <= 73


def test_the_share_of_whole_objects(disc: tuple[np.ndarray, np.ndarray], synth_settings: Make) -> None:
    image, inside = disc
    for seed in range(8):
        _, _, name, area = make_anomaly(
            image, inside, synth_settings(full_object_share=1.0), np.random.default_rng(seed)
        )
        assert name in ON_WHOLE_OBJECT and area > 0.6
    only = synth_settings(full_object_share=1.0, noises={"paste": 1.0})
    assert make_anomaly(image, inside, only, np.random.default_rng(0))[3] < 0.3


def test_a_noise_goes_where_its_key_says(disc: tuple[np.ndarray, np.ndarray], synth_settings: Make) -> None:
    """And the picture's record names the noise alone."""
    image, inside = disc
    areas = {}
    for shape in PLACES:
        settings = synth_settings(noises={f"gaussian@{shape}": 1.0}, full_object_share=0.0)
        made = [make_anomaly(image, inside, settings, np.random.default_rng(seed)) for seed in range(5)]
        assert {name for _, _, name, _ in made} == {"gaussian"}
        areas[shape] = np.mean([area for *_, area in made])
    assert areas["object"] > 0.9 and areas["scratch"] < 0.1
    assert all(
        areas["scratch"] < areas[shape] < areas["object"] for shape in ("patch", "ellipse", "box", "blob")
    )


def test_oagm_covers_the_object_or_a_part_of_it_as_often_as_asked(
    disc: tuple[np.ndarray, np.ndarray], synth_settings: Make
) -> None:
    image, inside = disc
    settings = synth_settings(noises={"oagm_full": 1.0, "oagm_region": 3.0}, full_object_share=0.0)
    made = [make_anomaly(image, inside, settings, np.random.default_rng(seed)) for seed in range(60)]
    full = [area for _, _, name, area in made if name == "oagm_full"]
    part = [area for _, _, name, area in made if name == "oagm_region"]
    assert 7 <= len(full) <= 24 and min(full) > 0.9
    assert len(full) + len(part) == 60 and np.median(part) < 0.3
    for out, mask, _, _ in made[:10]:
        check(image, inside, out, mask)


def test_todays_noises_come_as_ever(disc: tuple[np.ndarray, np.ndarray], settings: Settings) -> None:
    """What a growing bank must not change: which noise a seed gives, and where. Recorded before it grew."""
    image, inside = disc
    laid_down = {"area": [0.01, 0.2], "opacity": [0.5, 1.0], "full_object_share": 0.3}
    section = settings.synth.model_copy(update={"noises": NOISES_OF_THE_DEMO} | laid_down)
    made = [
        make_anomaly(image, inside, section, np.random.default_rng(seed)) for seed in range(len(RECORDED))
    ]
    assert [name for _, _, name, _ in made] == [name for name, _ in RECORDED]
    assert [area for *_, area in made] == pytest.approx([area for _, area in RECORDED], abs=2e-3)


def test_areas_follow_the_range(disc: tuple[np.ndarray, np.ndarray], synth_settings: Make) -> None:
    image, inside = disc
    means = []
    for area in ([0.03, 0.05], [0.3, 0.5]):
        settings = synth_settings(area=area, full_object_share=0.0, noises={"gaussian": 1.0})
        means.append(
            np.mean([make_anomaly(image, inside, settings, np.random.default_rng(s))[3] for s in range(10)])
        )
    assert means[0] < 0.07 and 0.15 < means[1] < 0.5


def test_a_small_object_still_gets_an_anomaly(
    disc: tuple[np.ndarray, np.ndarray], synth_settings: Make
) -> None:
    image, _ = disc
    small = np.zeros(image.shape[:2], dtype=bool)
    small[50:70, 70:90] = True  # 2 % of the picture
    for seed in range(6):
        out, mask, _, _ = make_anomaly(image, small, synth_settings(), np.random.default_rng(seed))
        check(image, small, out, mask)


def test_grey_pictures_stay_grey(plain: np.ndarray, synth_settings: Make) -> None:
    inside = np.ones(plain.shape[:2], dtype=bool)
    for seed in range(12):
        out = make_anomaly(plain, inside, synth_settings(), np.random.default_rng(seed))[0]
        assert np.ptp(out, axis=-1).max() < 0.005


def test_faults_are_told(plain: np.ndarray, synth_settings: Make) -> None:
    inside = np.ones(plain.shape[:2], dtype=bool)
    with pytest.raises(FlawlineError, match=r"synth\.noises: there is no noise 'perlin'"):
        make_anomaly(plain, inside, synth_settings(noises={"perlin": 1.0}), np.random.default_rng(0))
    with pytest.raises(FlawlineError, match=r"gaussian@moon: there is no shape 'moon'"):
        make_anomaly(plain, inside, synth_settings(noises={"gaussian@moon": 1.0}), np.random.default_rng(0))
    dot = np.zeros_like(inside)
    dot[40, 40] = True
    with pytest.raises(FlawlineError, match="an object of 1 pixels"):
        make_anomaly(plain, dot, synth_settings(full_object_share=0.0), np.random.default_rng(0))
