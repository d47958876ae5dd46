import pytest
import torch
import torch.nn.functional as F

from flawline.clip.backbone import Backbone
from flawline.clip.text_path import encode_words
from flawline.prompts.shared.base import MethodOptions
from flawline.prompts.shared.batches import Inputs
from flawline.prompts.shared.sentences import ABNORMAL_STATES, NORMAL_STATES, sentences, templates
from flawline.prompts.words import Words


def _words(tiny: Backbone, **options: object) -> Words:
    return Words(tiny, MethodOptions(image_path="vv", **options), seed=0)  # type: ignore[arg-type]


def test_ensemble_has_winclips_size() -> None:
    assert len(templates()) == len(set(templates())) == 22
    assert len(NORMAL_STATES) == 7 and len(ABNORMAL_STATES) == 4
    written = sentences(ABNORMAL_STATES, "metal nut", templates())
    assert len(written) == 88
    assert "a photo of a small damaged metal nut." in written
    assert "a photo of the metal nut with flaw for visual inspection." in written


def test_prototypes_are_the_mean_of_all_sentences(tiny: Backbone) -> None:
    text = _words(tiny).text_features("gear")
    raw = encode_words(tiny, [t.format(s.format("gear")) for t in templates() for s in NORMAL_STATES])
    assert torch.allclose(text[0], F.normalize(raw.mean(0), dim=-1), atol=1e-6)
    assert torch.allclose(text.norm(dim=-1), torch.ones(2), atol=1e-6)


@pytest.mark.parametrize(("noun", "same"), [("category", False), ("object", True)])
def test_category_names_matter_only_where_asked(tiny: Backbone, noun: str, same: bool) -> None:
    method = _words(tiny, noun=noun)
    cls = F.normalize(torch.randn(1, tiny.dim, generator=torch.Generator().manual_seed(0)), dim=-1).repeat(
        2, 1
    )
    patches = cls[:, None].repeat(1, tiny.grid**2, 1)[:, None]
    scores, _ = method.score(Inputs(cls, patches, ["gear", "woven cloth"]), 32)
    assert (scores[0] == scores[1]).item() is same


def test_words_has_nothing_to_train(tiny: Backbone) -> None:
    method = _words(tiny)
    assert method.stages() == [] and list(method.parameters()) == [] and method.state_dict() == {}
