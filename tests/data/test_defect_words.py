"""Built-in words for defects: complete for what flawline makes itself, and distinct where they train a class."""

from flawline.data.defect_words import DEFECT_WORDS
from flawline.synth.noises import BANK


def test_every_noise_and_every_sample_defect_has_a_word() -> None:
    types = {
        "chip",
        "crack",
        "rust",
        "scratch",
        "stain",
        "bubble",
        "missing_part",
        "hole",
        "thread",
        "wrinkle",
    }
    assert {*BANK, *types} <= set(DEFECT_WORDS["samples"])


def test_mvtec_has_twenty_classes_in_the_released_order() -> None:
    words = list(dict.fromkeys(DEFECT_WORDS["mvtec"].values()))
    assert len(words) == 20 and words[:3] == ["bent", "broken", "discoloration"] and words[-1] == "wear"
    assert len(DEFECT_WORDS["mvtec"]) == 50
    assert DEFECT_WORDS["mvtec"]["cable_swap"] == "misaligned" and DEFECT_WORDS["mvtec"]["oil"] == "liquid"


def test_no_list_names_good() -> None:
    assert all("good" not in words and all(words.values()) for words in DEFECT_WORDS.values())
