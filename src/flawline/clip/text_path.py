"""Words to features, and learned tokens to features, through the frozen text tower.

Dimensions: n sentences, P prompts, T tokens, k learned tokens, W text width, D joint, V vocabulary.

Features are raw (not normalised): methods average some before they normalise. The causal mask makes a token
blind to what follows it, and the feature is read at the end token: nothing after the last end is computed, and in the
last block, where nothing looks at the other tokens any more, the end token alone.
"""

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from flawline.clip.backbone import Backbone
from flawline.clip.products import PlainBlock, frozen_linear, mlp
from flawline.errors import FlawlineError

SLOT = "{}"


@dataclass(frozen=True)
class PromptTokens:
    """A tokenized template: ids int64 [T] (T = context length), slots int64 [k], place of the end token."""

    ids: Tensor
    slots: Tensor
    eot: int


@dataclass(frozen=True)
class PromptTemplate:
    """Words with places for learned tokens: every `{}` stands for one, as in `{} {} {} damaged object.`"""

    words: str

    @classmethod
    def context(cls, count: int, words: str) -> "PromptTemplate":
        """`count` learned tokens, then `words`: the common form `[V×count] object.`"""
        return cls(f"{SLOT} " * count + words)

    def tokenize(self, backbone: Backbone) -> PromptTokens:
        """Token ids with placeholders in the slots.

        Raises:
            FlawlineError: the template is too long for the text tower.
        """
        tokenizer = backbone.tokenizer
        (placeholder,) = _pieces(tokenizer, "x")  # any ordinary token: its embedding is replaced
        ids, slots = [tokenizer.sot_token_id], []
        for number, piece in enumerate(self.words.split(SLOT)):
            if number:
                slots.append(len(ids))
                ids.append(placeholder)
            ids.extend(_pieces(tokenizer, piece))
        ids.append(tokenizer.eot_token_id)
        if len(ids) > backbone.context_length:
            raise FlawlineError(
                f"the prompt '{self.words[-40:]}' with {len(slots)} learned tokens has {len(ids)} tokens, "
                f"{backbone.settings.name} reads {backbone.context_length}",
                "use fewer learned tokens or a shorter noun",
            )
        padded = torch.zeros(backbone.context_length, dtype=torch.long)
        padded[: len(ids)] = torch.tensor(ids)
        return PromptTokens(padded, torch.tensor(slots, dtype=torch.long), len(ids) - 1)


@lru_cache(maxsize=4096)
def _pieces(tokenizer: Any, words: str) -> tuple[int, ...]:
    """Token ids of words; kept, because templates are tokenized at every step of tuning."""
    return tuple(tokenizer.encode(words))


def slots(backbone: Backbone, template: PromptTemplate) -> Tensor:
    """Where the learned tokens stand in the token sequence: int64 [k]."""
    return template.tokenize(backbone).slots


def embed(backbone: Backbone, ids: Tensor) -> Tensor:
    """Token ids [...] → token embeddings [..., W], without positions."""
    with torch.no_grad():
        embeddings: Tensor = backbone.text.token_embedding(ids.to(backbone.device))
    return embeddings


def fill(embeddings: Tensor, places: Tensor, learned: Tensor) -> Tensor:
    """A copy of embeddings [..., T, W] with learned tokens [..., k, W] at `places` [k]; differentiable."""
    return embeddings.index_copy(-2, places.to(embeddings.device), learned.to(embeddings.dtype))


def encode_prompts(backbone: Backbone, embeddings: Tensor, eot: Tensor) -> Tensor:
    """Token embeddings → raw text features, with gradients with respect to the embeddings.

    Args:
        backbone: the frozen CLIP.
        embeddings: [P, T, W] without positions; T at most the context length.
        eot: int64 [P], position of each prompt's end token.

    Returns:
        [P, D], not normalised; equal to open_clip's encode_text where the embeddings are those of words.
    """
    tower = backbone.text
    length = int(eot.max()) + 1
    x = embeddings[:, :length] + tower.positional_embedding[:length]
    mask = tower.attn_mask[:length, :length]
    *blocks, last = tower.transformer.resblocks
    for block in blocks:
        x = pass_through(block, x, mask)
    at_end = read_at(last, x, eot.to(x.device), mask)
    return project(tower.text_projection, tower.ln_final(at_end))


def pass_through(block: Any, x: Tensor, mask: Tensor) -> Tensor:
    """A block's output [P, T, W] for its input, with the mask [T, T].

    torch's own attention turns prompts and tokens around, and then multiplies token by token, reading the weights T
    times; here they are read once.
    """
    if not isinstance(block, PlainBlock):
        whole: Tensor = block(x, attn_mask=mask)
        return whole
    projected = frozen_linear(block.ln_1(x), block.attn.in_proj_weight, block.attn.in_proj_bias)
    query, keys, values = projected.chunk(3, dim=-1)
    return finish(block, x, attend(block, query, keys, values, mask))


def read_at(block: Any, x: Tensor, places: Tensor, mask: Tensor) -> Tensor:
    """A block's output at one place of each prompt: x [P, T, W], places int64 [P], causal mask [T, T] → [P, W].

    The same values as the whole block's, for a T-th of the cost; keys and values are still those of all tokens.
    """
    rows = torch.arange(len(x), device=x.device)
    if not isinstance(block, PlainBlock):
        whole: Tensor = block(x, attn_mask=mask)[rows, places]
        return whole
    seen = block.ln_1(x)
    width = x.shape[-1]
    weight, bias = block.attn.in_proj_weight, block.attn.in_proj_bias
    query = frozen_linear(seen[rows, places], weight[:width], bias[:width])
    keys, values = frozen_linear(seen, weight[width:], bias[width:]).chunk(2, dim=-1)
    return finish(
        block, x[rows, places], attend(block, query[:, None], keys, values, mask[places, None, None])[:, 0]
    )


def attend(block: Any, query: Tensor, keys: Tensor, values: Tensor, mask: Tensor) -> Tensor:
    """Heads mixed: query [P, q, W], keys and values [P, T, W], a mask that fits [P, H, q, T] → [P, q, W]."""
    heads = block.attn.num_heads
    q, k, v = (part.unflatten(-1, (heads, -1)).transpose(1, 2) for part in (query, keys, values))
    mixed = F.scaled_dot_product_attention(q, k, v, attn_mask=mask.to(query.dtype))
    return mixed.transpose(1, 2).flatten(2)


def finish(block: Any, x: Tensor, mixed: Tensor) -> Tensor:
    """What a block makes of its input x [..., W] and its mixed heads [..., W]: projection, residuals and MLP."""
    out = block.attn.out_proj
    x = x + block.ls_1(frozen_linear(mixed, out.weight, out.bias))
    added: Tensor = block.ls_2(mlp(block, block.ln_2(x)))
    return x + added


def project(projection: object, x: Tensor) -> Tensor:
    if projection is None:
        return x
    if isinstance(projection, torch.nn.Linear):
        out: Tensor = projection(x)
        return out
    assert isinstance(projection, Tensor)
    return x @ projection


@torch.no_grad()
def encode_words(backbone: Backbone, sentences: list[str], batch: int = 64) -> Tensor:
    """Sentences → raw text features [n, D], equal to open_clip's encode_text.

    Raises:
        FlawlineError: a sentence is too long.
    """
    if not sentences:
        return torch.empty(0, backbone.dim, device=backbone.device)
    ids = backbone.tokenize(sentences)
    ends = ids.argmax(dim=-1)  # the end token has the highest id
    order = ends.argsort(stable=True)  # like lengths together: a batch costs what its longest sentence costs
    features = [
        encode_prompts(backbone, embed(backbone, ids[rows]), ends[rows]) for rows in order.split(batch)
    ]
    return torch.cat(features)[order.argsort()]


@torch.no_grad()
def nearest_words(backbone: Backbone, vectors: Tensor, top: int = 5) -> list[list[tuple[str, float]]]:
    """For each learned token [k, W] the vocabulary words with the most similar token embedding.

    Only tokens that are a whole word of letters count (no word pieces, numbers or punctuation).

    Returns:
        k lists of `top` pairs (word, cosine), most similar first.
    """
    words, ids = _whole_words(backbone)
    known = F.normalize(backbone.text.token_embedding.weight[ids.to(backbone.device)], dim=-1)
    cosines = F.normalize(vectors.detach().to(known), dim=-1) @ known.T
    best = cosines.topk(min(top, len(words)), dim=-1)
    return [
        [(words[index], float(value)) for index, value in zip(row, values, strict=True)]
        for row, values in zip(best.indices.tolist(), best.values.tolist(), strict=True)
    ]


def _whole_words(backbone: Backbone) -> tuple[list[str], Tensor]:
    tokenizer = backbone.tokenizer
    words, ids = [], []
    for token, number in sorted(tokenizer.encoder.items(), key=lambda item: item[1]):
        if not token.endswith("</w>"):
            continue
        raw = bytes(tokenizer.byte_decoder[letter] for letter in token.removesuffix("</w>"))
        word = raw.decode("utf-8", errors="replace")
        if word.isalpha():
            words.append(word)
            ids.append(number)
    return words, torch.tensor(ids)
