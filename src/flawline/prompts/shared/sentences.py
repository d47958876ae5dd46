"""Hand-written prompts: WinCLIP's compositional ensemble (CVPR 2023, supplement A) and general anomaly semantics."""

import torch
import torch.nn.functional as F
from torch import Tensor

from flawline.clip.backbone import Backbone
from flawline.clip.text_path import encode_words

NORMAL_STATES = (
    "{}", "flawless {}", "perfect {}", "unblemished {}", "{} without flaw", "{} without defect", "{} without damage",
)  # fmt: skip
ABNORMAL_STATES = ("damaged {}", "{} with flaw", "{} with defect", "{} with damage")
_STEMS = (
    "a cropped photo of {} {{}}.", "a close-up photo of {} {{}}.", "a bright photo of {} {{}}.",
    "a dark photo of {} {{}}.", "a jpeg corrupted photo of {} {{}}.", "a blurry photo of {} {{}}.",
    "a photo of {} {{}}.", "a photo of {} small {{}}.", "a photo of {} large {{}}.",
    "a photo of {} {{}} for visual inspection.", "a photo of {} {{}} for anomaly detection.",
)  # fmt: skip

# General anomaly semantics: what the meta-prompt of Human-Free starts from; no defect nouns.
GENERAL_NORMAL = ("{}", "flawless {}", "perfect {}", "{} without defect")
GENERAL_ABNORMAL = ("damaged {}", "abnormal {}", "{} with flaw", "{} with defect")
GENERAL_TEMPLATES = ("{}", "a photo of {}.", "a photo of a {}.", "a close-up photo of a {}.")


def templates() -> list[str]:
    """The 22 photo templates: each stem with `a` and with `the`, and a place for the state phrase."""
    return [stem.format(article) for stem in _STEMS for article in ("a", "the")]


def sentences(states: tuple[str, ...], noun: str, photos: list[str]) -> list[str]:
    """Every state in every template."""
    return [photo.format(state.format(noun)) for state in states for photo in photos]


def prototype(backbone: Backbone, states: tuple[str, ...], noun: str, photos: list[str]) -> Tensor:
    """Mean of the raw text features of all sentences, then unit length: [D]."""
    return F.normalize(encode_words(backbone, sentences(states, noun, photos)).mean(0), dim=-1)


def prototypes(
    backbone: Backbone, normal: tuple[str, ...], abnormal: tuple[str, ...], noun: str, photos: list[str]
) -> Tensor:
    """[2, D]: good, then defective."""
    return torch.stack([prototype(backbone, states, noun, photos) for states in (normal, abnormal)])
