"""How the embedded tiny CLIP is made: contrastive learning on rendered image-caption pairs, nothing else.

Two contrastive losses share the batch. The first is CLIP's (Radford et al. 2021) on the pooled image feature. The
second pools the patches for each caption by their similarity to it (PACL, Mukhoti et al. 2023, section 3), so that
patch features learn to carry words; it sees captions only, never masks. Captions that read alike count as
positives of each other. Half of the patches are dropped for most of the training (FLIP, Li et al. 2023), which
halves its cost.
"""

import json
import math
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from flawline.clip.pretrain_data import SHARD, PairBank, open_bank
from flawline.clip.registry import model_config, open_clip
from flawline.determinism import derived_seed, make_torch_deterministic
from flawline.files import atomic_file, read_json, sha256_file, write_json
from flawline.progress import track

MODEL = "flawline-tiny"
_PATCH_FOCUS = 12.0  # inverse temperature of the caption's attention over patches
_CHECKPOINT_EVERY = 200


@dataclass(frozen=True)
class Recipe:
    """Everything that decides the weights."""

    steps: int = 1800
    scenes: int = 48  # a batch has two pictures of each: good and flawed
    renders: int = 24000
    learning_rate: float = 1e-3
    weight_decay: float = 0.05
    warmup: int = 120
    dropped: float = 0.5  # share of patches dropped until `whole_from`
    whole_from: float = 0.9  # share of the steps after which all patches are seen
    seed: int = 0


def run(out: Path, cache: Path, recipe: Recipe, shard: int = SHARD) -> str:
    """Train (or go on training) and write the weights as float16 safetensors.

    Args:
        out: the weight file to write.
        cache: folder for the rendered bank and the checkpoint; an interrupted run continues from it.
        recipe: the settings; a checkpoint of another recipe is not continued.
        shard: scenes a file of the bank.

    Returns:
        SHA-256 of the written file.
    """
    model_config(MODEL)  # registers it
    make_torch_deterministic(recipe.seed)
    model = open_clip.create_model(MODEL, pretrained=None)
    tokenizer = open_clip.get_tokenizer(MODEL)
    bank = open_bank(cache / "pairs", recipe.renders, model.visual.image_size[0], recipe.seed, shard)
    optimizer = torch.optim.AdamW(
        _groups(model, recipe), lr=recipe.learning_rate, betas=(0.9, 0.98), eps=1e-6
    )
    start = _resume(model, optimizer, cache, recipe)
    model.train()
    for step in track(range(start, recipe.steps), "pretraining", recipe.steps - start):
        loss = _step(model, tokenizer, optimizer, bank, recipe, step)
        if step % 50 == 0:
            with (cache / "log.jsonl").open("a", encoding="utf-8") as log:
                log.write(json.dumps({"step": step, "loss": round(loss, 4)}) + "\n")
        if (step + 1) % _CHECKPOINT_EVERY == 0:
            _checkpoint(model, optimizer, cache, recipe, step + 1)
    export(model, out, recipe)
    return sha256_file(out)


def export(model: Any, out: Path, recipe: Recipe) -> None:
    """Write the weights in half precision with the recipe in the file's metadata."""
    weights = {name: value.detach().half().contiguous() for name, value in sorted(model.state_dict().items())}
    # One key only: safetensors writes several in an order that changes from run to run.
    metadata = {"recipe": json.dumps({"model": MODEL} | asdict(recipe), sort_keys=True)}
    with atomic_file(out) as partial:
        save_file(weights, partial, metadata)


def _groups(model: Any, recipe: Recipe) -> list[dict]:
    """Weight decay for matrices only: embeddings, norms, biases and the logit scale are left alone."""
    decayed: list[Tensor] = []
    free: list[Tensor] = []
    for name, value in model.named_parameters():
        matrix = value.ndim >= 2 and "embedding" not in name
        (decayed if matrix else free).append(value)
    return [{"params": decayed, "weight_decay": recipe.weight_decay}, {"params": free, "weight_decay": 0.0}]


def _step(model, tokenizer, optimizer, bank: PairBank, recipe: Recipe, step: int) -> float:
    rng = np.random.default_rng(derived_seed("pretrain", recipe.seed, step))
    torch.manual_seed(derived_seed("augment", recipe.seed, step))
    for group in optimizer.param_groups:
        group["lr"] = _rate(recipe, step)
    pictures, captions = bank.batch(rng.choice(len(bank), recipe.scenes, replace=False), rng)
    images = _augment(torch.from_numpy(pictures))
    ids = tokenizer(captions)
    kept = 0.0 if step >= recipe.whole_from * recipe.steps else recipe.dropped
    # bfloat16 products are 2.5 times as fast as float32 on CPUs that have them; weights and losses stay float32
    with torch.autocast("cpu", dtype=torch.bfloat16):
        pooled, patches = encode_for_training(model.visual, images, kept)
        texts = _encode_text(model, ids)
    pooled, patches, texts = (
        F.normalize(pooled.float(), dim=-1),
        F.normalize(patches.float(), dim=-1),
        texts.float(),
    )
    texts = F.normalize(texts, dim=-1)
    scale = model.logit_scale.exp().clamp(max=100.0)
    same = torch.tensor([[a == b for b in captions] for a in captions], dtype=torch.float32)
    similarity = pooled @ texts.T
    local = patches @ texts.T  # [B, N, captions]
    focused = ((local * _PATCH_FOCUS).softmax(1) * local).sum(1)
    loss = _contrastive(scale * similarity, same) + _contrastive(scale * focused, same)
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
    with torch.no_grad():
        model.logit_scale.clamp_(0, math.log(100))
    return loss.item()


def _rate(recipe: Recipe, step: int) -> float:
    if step < recipe.warmup:
        return recipe.learning_rate * (step + 1) / recipe.warmup
    done = (step - recipe.warmup) / max(1, recipe.steps - recipe.warmup)
    return recipe.learning_rate * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * done)))


def _contrastive(logits: Tensor, same: Tensor) -> Tensor:
    """Symmetric cross-entropy; rows and columns with equal captions share the target mass."""
    by_image = F.cross_entropy(logits, same / same.sum(1, keepdim=True))
    by_text = F.cross_entropy(logits.T, same / same.sum(1, keepdim=True))
    return (by_image + by_text) / 2


def _augment(pictures: Tensor) -> Tensor:
    """uint8 [B, n, n, 3] → normalised float [B, 3, n, n], flipped, turned, relit, blurred and grained at random."""
    x = pictures.permute(0, 3, 1, 2).float() / 255
    b = len(x)
    flip_x, flip_y, turn = torch.rand(b) < 0.5, torch.rand(b) < 0.5, torch.rand(b) < 0.5
    x = torch.where(flip_x[:, None, None, None], x.flip(3), x)
    x = torch.where(flip_y[:, None, None, None], x.flip(2), x)
    x = torch.where(turn[:, None, None, None], x.transpose(2, 3), x)
    contrast, light = 0.7 + 0.6 * torch.rand(b, 1, 1, 1), 0.24 * (torch.rand(b, 1, 1, 1) - 0.5)
    tint = 0.92 + 0.16 * torch.rand(b, 3, 1, 1)
    x = ((x - 0.5) * contrast + 0.5 + light) * tint
    soft = F.avg_pool2d(F.pad(x, (1, 1, 1, 1), mode="reflect"), 3, 1)
    x = torch.lerp(x, soft, (torch.rand(b, 1, 1, 1) * 1.4 - 0.4).clamp(0))
    grain = torch.randn(
        1, *x.shape[1:]
    )  # one sheet of grain, turned by the flips above: a sheet each is slow
    x = (x + grain * 0.03 * torch.rand(b, 1, 1, 1)).clamp(0, 1)
    from open_clip import OPENAI_DATASET_MEAN, OPENAI_DATASET_STD

    return (x - torch.tensor(OPENAI_DATASET_MEAN)[:, None, None]) / torch.tensor(OPENAI_DATASET_STD)[
        :, None, None
    ]


def encode_for_training(visual: Any, images: Tensor, dropped: float) -> tuple[Tensor, Tensor]:
    """Pooled feature [B, D] and projected patches [B, N', D] of the average-pooled tower, patches dropped at random."""
    x = visual.conv1(images).flatten(2).transpose(1, 2)
    x = x + visual.positional_embedding[1:]
    if dropped:
        count = x.shape[1]
        keep = torch.rand(len(x), count).argsort(1)[:, : count - int(dropped * count)]
        x = x.gather(1, keep[..., None].expand(-1, -1, x.shape[2]))
    first = (visual.class_embedding + visual.positional_embedding[0]).expand(len(x), 1, -1)
    x = visual.ln_pre(torch.cat([first, x], 1))
    x = visual.ln_post(visual.transformer(x))[:, 1:]
    return x.mean(1) @ visual.proj, x @ visual.proj


def _encode_text(model: Any, ids: Tensor) -> Tensor:
    """open_clip's text feature at the length the batch needs: exact, for the mask is causal and EOT is pooled."""
    end = ids.argmax(1)
    length = int(end.max()) + 1
    x = model.token_embedding(ids[:, :length]) + model.positional_embedding[:length]
    x = model.transformer(x, attn_mask=model.attn_mask[:length, :length])
    return model.ln_final(x)[torch.arange(len(x)), end] @ model.text_projection


def _checkpoint(model, optimizer, cache: Path, recipe: Recipe, step: int) -> None:
    tensors = {f"model.{k}": v.contiguous() for k, v in model.state_dict().items()}
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    for k, parameter in enumerate(parameters):
        for name, value in optimizer.state[parameter].items():
            tensors[f"optimizer.{k}.{name}"] = torch.as_tensor(value).contiguous()
    with atomic_file(cache / "checkpoint.safetensors") as partial:
        save_file(tensors, partial, {"step": str(step)})
    write_json(cache / "checkpoint.json", {"step": step, "recipe": asdict(recipe)})


def _resume(model, optimizer, cache: Path, recipe: Recipe) -> int:
    card = cache / "checkpoint.json"
    if not card.is_file() or read_json(card)["recipe"] != asdict(recipe):
        return 0
    tensors = load_file(cache / "checkpoint.safetensors")
    model.load_state_dict({k.removeprefix("model."): v for k, v in tensors.items() if k.startswith("model.")})
    for k, parameter in enumerate(p for group in optimizer.param_groups for p in group["params"]):
        prefix = f"optimizer.{k}."
        optimizer.state[parameter] = {
            n.removeprefix(prefix): v for n, v in tensors.items() if n.startswith(prefix)
        }
    return int(read_json(card)["step"])
