"""Deterministic tiny CLIP weights and inputs for flawline's parity vectors.

Every number comes from a Philox bit stream keyed by (seed, name), turned into
a bell-shaped value by integer arithmetic alone. Nothing here depends on the
version of torch or on the floating-point library of the machine, so the same
seed gives the same bytes everywhere.

Two variants, both with a 5 x 5 patch grid and a joint dimension of 128:

* ``l14``: vision 24 blocks, patch 14, image 70, QuickGELU (the shape of
  ViT-L/14, for FAPrompt, AnomalyCLIP and DAPO).
* ``b16plus``: vision 12 blocks, patch 16, image 80, exact GELU (the shape of
  ViT-B/16+, for PromptAD and WinCLIP).

Command line: ``python make_weights.py l14 --seed 20240 --out tiny.safetensors``
"""

from __future__ import annotations

import argparse
import hashlib

import numpy as np

WIDTH = 128  # vision width = text width = joint dimension
HEAD_WIDTH = 64  # so two heads in both towers
TEXT_LAYERS = 12
VOCAB = 49408
CONTEXT = 77

MODEL_CONFIGS = {
    "l14": {
        "embed_dim": WIDTH,
        "quick_gelu": True,
        "vision_cfg": {
            "image_size": 70,
            "layers": 24,
            "width": WIDTH,
            "head_width": HEAD_WIDTH,
            "patch_size": 14,
        },
        "text_cfg": {
            "context_length": CONTEXT,
            "vocab_size": VOCAB,
            "width": WIDTH,
            "heads": 2,
            "layers": TEXT_LAYERS,
        },
    },
    "b16plus": {
        "embed_dim": WIDTH,
        "quick_gelu": False,
        "vision_cfg": {
            "image_size": 80,
            "layers": 12,
            "width": WIDTH,
            "head_width": HEAD_WIDTH,
            "patch_size": 16,
        },
        "text_cfg": {
            "context_length": CONTEXT,
            "vocab_size": VOCAB,
            "width": WIDTH,
            "heads": 2,
            "layers": TEXT_LAYERS,
        },
    },
}


def _stream(name: str, seed: int, count: int) -> np.ndarray:
    """``count`` raw 64-bit words of the Philox stream named ``name``."""
    digest = hashlib.sha256(f"{seed}/{name}".encode()).digest()
    key = np.frombuffer(digest[:16], dtype="<u8")
    return np.random.Philox(key=key, counter=0).random_raw(count)


def normal(name: str, shape, seed: int, std: float = 1.0, mean: float = 0.0) -> np.ndarray:
    """Bell-shaped float32 values: the sum of the four 16-bit quarters of a word.

    The sum of four uniform integers has an exactly known mean and variance and
    is close to normal (it never exceeds 3.46 standard deviations).
    """
    count = int(np.prod(shape, dtype=np.int64))
    quarters = _stream(name, seed, count).view(np.uint16).reshape(count, 4)
    total = quarters.sum(axis=1, dtype=np.int64)
    centred = (total - 2 * 65535).astype(np.float64) / np.sqrt((65536.0**2 - 1) / 3)
    return (centred * std + mean).astype(np.float32).reshape(shape)


def uniform(name: str, shape, seed: int, low: float, high: float) -> np.ndarray:
    """Uniform float32 values in [low, high) from the top 53 bits of each word."""
    count = int(np.prod(shape, dtype=np.int64))
    unit = (_stream(name, seed, count) >> np.uint64(11)).astype(np.float64) * 2.0**-53
    return (unit * (high - low) + low).astype(np.float32).reshape(shape)


def from_recipe(recipe: dict) -> np.ndarray:
    """A learnable parameter from its JSON recipe: kind, name, shape, seed and the two numbers of the kind.

    kind ``normal`` takes std and mean; kind ``uniform`` takes low and high.
    """
    head = (recipe["name"], recipe["shape"], recipe["seed"])
    if recipe["kind"] == "normal":
        return normal(*head, recipe["std"], recipe["mean"])
    if recipe["kind"] == "uniform":
        return uniform(*head, recipe["low"], recipe["high"])
    raise ValueError(f"unknown recipe kind {recipe['kind']!r}: use 'normal' or 'uniform'")


def _tower(prefix: str, layers: int, seed: int) -> dict[str, np.ndarray]:
    """The blocks of one transformer, at about CLIP's initial scale.

    The branches that write to the residual stream are drawn twice as large as
    CLIP draws them, and all biases and LayerNorm gains are off their neutral
    values, so that a forgotten bias or a swapped gain shows.
    """
    w = WIDTH
    residual = 2.0 * w**-0.5 * (2 * layers) ** -0.5
    out: dict[str, np.ndarray] = {}
    for i in range(layers):
        p = f"{prefix}.resblocks.{i}"
        specs = {
            "ln_1.weight": ((w,), 0.1, 1.0),
            "ln_1.bias": ((w,), 0.1, 0.0),
            "attn.in_proj_weight": ((3 * w, w), 1.5 * w**-0.5, 0.0),
            "attn.in_proj_bias": ((3 * w,), 0.05, 0.0),
            "attn.out_proj.weight": ((w, w), residual, 0.0),
            "attn.out_proj.bias": ((w,), 0.02, 0.0),
            "ln_2.weight": ((w,), 0.1, 1.0),
            "ln_2.bias": ((w,), 0.1, 0.0),
            "mlp.c_fc.weight": ((4 * w, w), 1.5 * (2 * w) ** -0.5, 0.0),
            "mlp.c_fc.bias": ((4 * w,), 0.05, 0.0),
            "mlp.c_proj.weight": ((w, 4 * w), residual, 0.0),
            "mlp.c_proj.bias": ((w,), 0.02, 0.0),
        }
        for key, (shape, std, mean) in specs.items():
            out[f"{p}.{key}"] = normal(f"{p}.{key}", shape, seed, std, mean)
    return out


def clip_state_dict(variant: str, seed: int) -> dict[str, np.ndarray]:
    """All weights of a tiny CLIP under open_clip / OpenAI parameter names."""
    vision = MODEL_CONFIGS[variant]["vision_cfg"]
    w, patch = WIDTH, vision["patch_size"]
    grid = vision["image_size"] // patch
    flat = {
        "visual.conv1.weight": ((w, 3, patch, patch), (3 * patch * patch) ** -0.5, 0.0),
        "visual.class_embedding": ((w,), 0.5, 0.0),
        "visual.positional_embedding": ((grid * grid + 1, w), 0.3, 0.0),
        "visual.ln_pre.weight": ((w,), 0.1, 1.0),
        "visual.ln_pre.bias": ((w,), 0.1, 0.0),
        "visual.ln_post.weight": ((w,), 0.1, 1.0),
        "visual.ln_post.bias": ((w,), 0.1, 0.0),
        "visual.proj": ((w, w), w**-0.5, 0.0),
        "token_embedding.weight": ((VOCAB, w), 0.02, 0.0),
        "positional_embedding": ((CONTEXT, w), 0.01, 0.0),
        "ln_final.weight": ((w,), 0.1, 1.0),
        "ln_final.bias": ((w,), 0.1, 0.0),
        "text_projection": ((w, w), w**-0.5, 0.0),
    }
    state = {name: normal(name, shape, seed, std, mean) for name, (shape, std, mean) in flat.items()}
    state |= _tower("visual.transformer", vision["layers"], seed)
    state |= _tower("transformer", TEXT_LAYERS, seed)
    state["logit_scale"] = np.asarray(np.log(100.0), dtype=np.float32)
    return state


def fingerprint(state: dict[str, np.ndarray]) -> str:
    """SHA-256 over the names, shapes and little-endian float32 bytes, sorted by name."""
    digest = hashlib.sha256()
    for name in sorted(state):
        value = np.ascontiguousarray(state[name], dtype="<f4")
        digest.update(f"{name}{list(value.shape)}".encode())
        digest.update(value.tobytes())
    return digest.hexdigest()


def images(name: str, count: int, size: int, seed: int) -> np.ndarray:
    """Already normalised images [count, 3, size, size]: soft 7 x 7 tiles plus fine noise."""
    tiles = normal(f"{name}/tiles", (count, 3, 7, 7), seed)
    step = -(-size // 7)
    coarse = tiles.repeat(step, axis=2).repeat(step, axis=3)[:, :, :size, :size]
    return (coarse + np.float32(0.5) * normal(f"{name}/noise", (count, 3, size, size), seed)).astype(
        np.float32
    )


def build_open_clip(variant: str, seed: int):
    """An open_clip model (eval mode, float32, CPU) that carries these weights."""
    import torch
    from open_clip.model import CLIP

    model = CLIP(**MODEL_CONFIGS[variant])
    state = {k: torch.from_numpy(np.array(v)) for k, v in clip_state_dict(variant, seed).items()}
    model.load_state_dict(state, strict=True)
    return model.eval().requires_grad_(False)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("variant", choices=sorted(MODEL_CONFIGS))
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument(
        "--out", help="write a safetensors file here; without it only the fingerprint is printed"
    )
    args = parser.parse_args()
    state = clip_state_dict(args.variant, args.seed)
    if args.out:
        from safetensors.numpy import save_file

        save_file({k: np.ascontiguousarray(v) for k, v in state.items()}, args.out)
    print(fingerprint(state))


if __name__ == "__main__":
    main()
