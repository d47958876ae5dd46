"""Words to features, and learned tokens to features, through the frozen text tower.

Dimensions: n sentences, P prompts, T tokens, k learned tokens, W text width, D joint, V vocabulary.

Features are raw (not normalised): methods average some before they normalise. The causal mask makes a token
blind to what follows it, and the feature is read at the end token, so nothing after the last end is computed.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from flawline.clip.backbone import Backbone
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
        (placeholder,) = tokenizer.encode("x")  # any ordinary token: its embedding is replaced
        ids, slots = [tokenizer.sot_token_id], []
        for number, piece in enumerate(self.words.split(SLOT)):
            if number:
                slots.append(len(ids))
                ids.append(placeholder)
            ids.extend(tokenizer.encode(piece))
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
    for block in tower.transformer.resblocks:
        x = block(x, attn_mask=mask)
    at_end = x[torch.arange(len(x), device=x.device), eot.to(x.device)]
    return project(tower.text_projection, tower.ln_final(at_end))


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
    features = [
        encode_prompts(
            backbone, embed(backbone, part), part.argmax(dim=-1)
        )  # the end token has the highest id
        for part in ids.split(batch)
    ]
    return torch.cat(features)


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
