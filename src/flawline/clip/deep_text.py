"""Deep text prompting: learned tokens that take the place of hidden states inside the frozen text tower.

Dimensions: P prompts, T tokens, k deep tokens a layer, W text width, D joint.

CODE (released AnomalyCLIP and FAPrompt, the same in both): before each of the text layers 2..depth the hidden states
at positions 1..k, right after the start token, are overwritten; nothing is inserted. The causal mask stays, the
feature is read at the true end token. The released code rounds the deep tokens to float16 in every sequence on
their own, and so the gradients of every sequence before they are summed: `half` does the same.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from flawline.clip.backbone import Backbone
from flawline.clip.text_path import pass_through, project, read_at
from flawline.errors import FlawlineError

DEVIATION = 0.02  # of every learned token's start, in both methods' released code


def start_tokens(shape: tuple[int, ...], generator: torch.Generator) -> nn.Parameter:
    """Learned tokens [*shape], drawn from N(0, 0.02²)."""
    return nn.Parameter(torch.randn(shape, generator=generator) * DEVIATION)


def deep_tokens(backbone: Backbone, depth: int, length: int, generator: torch.Generator) -> nn.ParameterList:
    """Tokens [length, W] for each of the text layers 2..depth; a depth beyond the tower's ends with the tower."""
    layers = range(2, min(depth, backbone.text_layers) + 1)
    return nn.ParameterList([start_tokens((length, backbone.text_width), generator) for _ in layers])


def encode_deep(
    backbone: Backbone,
    embeddings: Tensor,
    eot: Tensor,
    deep: Sequence[Tensor],
    half: bool = False,
) -> Tensor:
    """Token embeddings → raw text features through overwritten layers, with gradients to both.

    Only the places up to the last end token are computed: the causal mask hides the rest. Prompts that begin alike
    are encoded with flawline.clip.prompt_tree.

    Args:
        backbone: the frozen CLIP.
        embeddings: [P, T, W] without positions; T at most the context length.
        eot: int64 [P], position of each prompt's end token.
        deep: tokens [k, W] for text layer 2, 3, …; none is flawline.clip.text_path.encode_prompts.
        half: round the deep tokens to float16 a sequence, as released code does.

    Returns:
        [P, D], not normalised.

    Raises:
        FlawlineError: the deep tokens reach an end token, where the feature is read.
    """
    reach = max((len(tokens) for tokens in deep), default=0)
    if reach >= int(eot.min()):
        raise FlawlineError(
            f"{reach} deep tokens overwrite the end of a prompt of {int(eot.min()) + 1} tokens",
            f"set deep_length to {int(eot.min()) - 1} or less, or use more learned tokens",
        )
    tower = backbone.text
    length = int(eot.max()) + 1
    x = embeddings[:, :length] + tower.positional_embedding[:length]
    mask = tower.attn_mask[:length, :length]
    blocks = tower.transformer.resblocks
    for layer, block in enumerate(blocks):
        if 1 <= layer <= len(deep):
            x = overwrite(x, deep[layer - 1], half)
        if layer < len(blocks) - 1:
            x = pass_through(block, x, mask)
    at_end = read_at(blocks[-1], x, eot.to(x.device), mask)
    return project(tower.text_projection, tower.ln_final(at_end))


def overwrite(x: Tensor, tokens: Tensor, half: bool = False) -> Tensor:
    """Hidden states [P, T, W] with positions 1..k replaced by tokens [k, W]."""
    each = tokens.expand(len(x), *tokens.shape)
    if half:
        each = each.half()  # after expand: the gradient is rounded a sequence, then summed
    first, _, rest = x.split([1, len(tokens), x.shape[1] - 1 - len(tokens)], dim=1)
    return torch.cat([first, each.to(x.dtype), rest], dim=1)
