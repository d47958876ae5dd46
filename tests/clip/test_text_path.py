"""The text path against open_clip and released code; learned tokens, their places and their gradients."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file

from flawline.clip.backbone import Backbone
from flawline.clip.text_path import (
    PromptTemplate,
    embed,
    encode_prompts,
    encode_words,
    fill,
    nearest_words,
    pass_through,
    read_at,
    slots,
)
from flawline.errors import FlawlineError

GOLDEN = Path(__file__).parent.parent / "golden"
SHAPES = ["tok", "avg", "avg-ln-after", "layerscale", "quickgelu", "own-text"]  # as in conftest.py

SENTENCES = [
    "object.",
    "a photo of a scratched metal nut",
    "a",
    "flawless grey casting with a long description",
]


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("batch", [1, 3, 64])
def test_words_equal_open_clips_encode_text(
    backbone_of: Callable[..., Backbone], shape: str, batch: int
) -> None:
    backbone = backbone_of(shape)
    with torch.no_grad():
        want = backbone.model.encode_text(backbone.tokenize(SENTENCES))
    have = encode_words(backbone, SENTENCES, batch=batch)
    assert have.shape == (4, backbone.dim) and not have.requires_grad
    assert float((have - want).abs().max() / want.abs().max()) < 1e-6


def test_released_code_gives_the_same_numbers(golden_backbone: Backbone) -> None:
    gold = load_file(GOLDEN / "clip_l14.safetensors")
    texts = ["object.", "damaged object.", "a photo of a scratched metal nut", "flawless"]
    assert torch.equal(golden_backbone.tokenize(texts), gold["in.tokens"])
    want = gold["out.text_features_raw"]
    have = encode_words(golden_backbone, texts)
    assert float((have - want).abs().max() / want.abs().max()) < 1e-4


@pytest.mark.parametrize("shape", ["tok", "layerscale", "quickgelu", "own-text"])
def test_a_block_is_open_clips_block_and_is_read_where_it_is_asked(
    backbone_of: Callable[..., Backbone], shape: str
) -> None:
    """Values and gradients, to 1e-6 of the largest."""
    backbone = backbone_of(shape)
    generator = torch.Generator().manual_seed(0)
    start = torch.randn(3, 9, backbone.text_width, generator=generator)
    places, mask = torch.tensor([8, 3, 0]), backbone.text.attn_mask[:9, :9]
    goal = torch.randn(3, backbone.text_width, generator=generator)
    rows = torch.arange(3)
    for block in backbone.text.transformer.resblocks:
        found = []
        for read in (
            lambda x, block=block: block(x, attn_mask=mask)[rows, places],
            lambda x, block=block: pass_through(block, x, mask)[rows, places],
            lambda x, block=block: read_at(block, x, places, mask),
        ):
            x = start.clone().requires_grad_()
            out = read(x)
            (out * goal).sum().backward()
            found.append((out.detach(), x.grad))
        for other in found[1:]:
            for have, want in zip(other, found[0], strict=True):
                assert float((have - want).abs().max() / want.abs().max()) < 1e-6
    assert float(found[0][1][1, 4:].abs().max()) == 0  # what follows the place read does not count


def test_a_block_of_another_kind_is_run_as_it_is() -> None:
    class Doubled(torch.nn.Module):
        def forward(self, x: torch.Tensor, attn_mask: torch.Tensor) -> torch.Tensor:
            return 2 * x + attn_mask.sum()

    x, mask = torch.randn(2, 4, 5), torch.ones(4, 4)
    assert torch.equal(pass_through(Doubled(), x, mask), 2 * x + 16)
    assert torch.equal(read_at(Doubled(), x, torch.tensor([3, 1]), mask), (2 * x + 16)[[0, 1], [3, 1]])


def test_a_template_is_tokenized_once(tiny: Backbone, monkeypatch: pytest.MonkeyPatch) -> None:
    template = PromptTemplate.context(3, "an uncommon noun.")
    first = template.tokenize(tiny)
    monkeypatch.setattr(tiny.tokenizer, "encode", lambda words: pytest.fail(f"tokenized again: {words}"))
    again = template.tokenize(tiny)
    assert torch.equal(first.ids, again.ids) and first.eot == again.eot
    assert again.ids is not first.ids  # nobody can change the next one's


def test_another_word_another_feature(tiny: Backbone) -> None:
    features = encode_words(tiny, ["a scratched nut", "a dented nut", "a scratched bolt", "nut a scratched"])
    apart = torch.cdist(features, features) + torch.eye(4) * 1e9
    assert float(apart.min()) > 1e-3


def test_no_sentence_no_feature(tiny: Backbone) -> None:
    assert encode_words(tiny, []).shape == (0, tiny.dim)


def test_template_places_its_slots(tiny: Backbone) -> None:
    template = PromptTemplate.context(16, "metal nut.")
    tokens = template.tokenize(tiny)
    assert tokens.slots.tolist() == list(range(1, 17)) == slots(tiny, template).tolist()
    words = tiny.tokenize(["metal nut."])[0]
    length = int(words.argmax())
    assert tokens.ids[17 : 17 + length].tolist() == words[1 : 1 + length].tolist()
    assert tokens.eot == int(tokens.ids.argmax()) == 16 + length
    assert tokens.ids.shape == (tiny.context_length,)
    middle = PromptTemplate("a {} {} nut with {} inside").tokenize(tiny)
    assert middle.slots.tolist() == [2, 3, 6]
    plain = PromptTemplate("a metal nut.").tokenize(tiny)
    assert plain.slots.tolist() == [] and torch.equal(plain.ids, tiny.tokenize(["a metal nut."])[0])


def test_a_template_that_is_too_long_is_refused(tiny: Backbone) -> None:
    with pytest.raises(FlawlineError, match=r"with 76 learned tokens has 80 tokens"):
        PromptTemplate.context(76, "metal nut").tokenize(tiny)


@pytest.mark.parametrize("shape", ["tok", "layerscale", "own-text"])
def test_learned_tokens_that_are_words_give_the_words_feature(
    backbone_of: Callable[..., Backbone], shape: str
) -> None:
    """Fill the slots with the embeddings of real words: the feature of the sentence comes out."""
    backbone = backbone_of(shape)
    sentence = backbone.tokenize(["a photo of a broken metal nut"])
    tokens = PromptTemplate("{} photo {} a {} metal nut").tokenize(backbone)
    learned = embed(backbone, sentence[0])[tokens.slots]
    filled = fill(embed(backbone, tokens.ids), tokens.slots, learned)
    have = encode_prompts(backbone, filled[None], torch.tensor([tokens.eot]))
    with torch.no_grad():
        want = backbone.model.encode_text(sentence)
    assert float((have - want).abs().max() / want.abs().max()) < 1e-6


def test_only_what_stands_before_the_end_matters(tiny: Backbone) -> None:
    """Embeddings after the end token change nothing, wherever other prompts of the batch end."""
    ids = tiny.tokenize(["a nut", "a photo of a rusty old metal nut"])
    eot = ids.argmax(dim=-1)
    embeddings = embed(tiny, ids)
    noisy = embeddings.clone()
    noisy[0, int(eot[0]) + 1 :] = 7.0
    have, want = encode_prompts(tiny, noisy, eot), encode_prompts(tiny, embeddings, eot)
    assert torch.allclose(have, want, atol=1e-5)
    alone = encode_prompts(tiny, embeddings[:1, : int(eot[0]) + 1], eot[:1])
    assert torch.allclose(alone, want[:1], atol=1e-5)


def test_gradients_reach_the_learned_tokens_and_nothing_else(backbone_of: Callable[..., Backbone]) -> None:
    backbone = backbone_of("tok")
    tokens = PromptTemplate.context(4, "object.").tokenize(backbone)
    base = embed(backbone, tokens.ids)
    learned = torch.randn(2, 4, backbone.text_width, generator=torch.Generator().manual_seed(0)) * 0.02
    learned.requires_grad_(True)
    goal = torch.randn(2, backbone.dim, generator=torch.Generator().manual_seed(1))

    def loss_of(values: torch.Tensor) -> torch.Tensor:
        filled = fill(base.expand(2, -1, -1), tokens.slots, values)
        return (encode_prompts(backbone, filled, torch.tensor([tokens.eot] * 2)) * goal).sum()

    loss_of(learned).backward()
    assert learned.grad is not None
    assert (learned.grad.abs().amax(dim=-1) > 0).all()
    assert all(parameter.grad is None for parameter in backbone.parameters())
    # against a difference quotient along one direction, in double precision
    backbone.double()
    base, goal, step = base.double(), goal.double(), 1e-4
    direction = F.normalize(learned.grad.double(), dim=-1)
    with torch.no_grad():
        start = learned.double()
        slope = (loss_of(start + step * direction) - loss_of(start - step * direction)) / (2 * step)
    assert float(slope) == pytest.approx(float((learned.grad.double() * direction).sum()), rel=1e-3)


def test_fill_copies(tiny: Backbone) -> None:
    base = torch.zeros(5, 3)
    out = fill(base, torch.tensor([1, 3]), torch.ones(2, 3))
    assert base.sum() == 0 and out.sum(dim=-1).tolist() == [0, 3, 0, 3, 0]


def test_nearest_words_finds_the_words_themselves(tiny: Backbone) -> None:
    ids = tiny.tokenize(["scratch metal 7 !"])[0]
    vectors = embed(tiny, ids)[1:5] * 3.0
    found = nearest_words(tiny, vectors, top=5)
    assert [len(row) for row in found] == [5] * 4
    assert found[0][0] == ("scratch", pytest.approx(1.0, abs=1e-5))
    assert found[1][0] == ("metal", pytest.approx(1.0, abs=1e-5))
    assert all(word.isalpha() for row in found for word, _ in row)
    assert all(row == sorted(row, key=lambda pair: -pair[1]) for row in found)
    assert found[2][0][1] < 0.99  # a digit is no word: the nearest word is another token
