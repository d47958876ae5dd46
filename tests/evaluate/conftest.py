"""Made images whose defects are half visible to a made detector: enough for every metric to be defined."""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from safetensors.numpy import load_file

GOLDEN = Path(__file__).resolve().parent.parent / "golden"


@dataclass
class Made:
    index: pd.DataFrame
    scores: np.ndarray
    maps: np.ndarray
    masks: list[np.ndarray | None]


def make(seed: int = 0, side: int = 24, per_type: int = 4, contrast: float = 1.2) -> Made:
    """Two categories with two types of defects and as many good images; maps are noise plus `contrast`."""
    random = np.random.default_rng(seed)
    rows, maps, masks = [], [], []
    for category in ("bolts", "tiles"):
        for defect in ("crack", "good", "stain"):
            for number in range(per_type):
                mask = np.zeros((side, side), dtype=bool)
                if defect != "good":
                    top, left = random.integers(0, side - 8, 2)
                    mask[top : top + 5, left : left + 6] = True
                    mask[side - 2, side - 2] = True
                noise = random.normal(0, 1, (side, side))
                maps.append((noise + contrast * mask).astype(np.float32))
                masks.append(None if defect == "good" else mask)
                name = f"demo/{category}/test/{defect}/{number:03d}.png"
                label = int(defect != "good")
                rows.append({"image": name, "category": category, "defect": defect, "label": label})
    index = pd.DataFrame(rows)
    stack = np.stack(maps)
    scores = np.sort(stack.reshape(len(stack), -1), axis=1)[:, -12:].mean(axis=1)
    return Made(index, scores, stack, masks)


@pytest.fixture
def made() -> Made:
    return make()


@pytest.fixture(scope="session")
def golden() -> tuple[dict[str, np.ndarray], dict[str, dict[str, float]]]:
    """Tensors and values of tests/golden/metrics.*"""
    values = json.loads((GOLDEN / "metrics.json").read_text(encoding="utf-8"))["values"]
    return load_file(GOLDEN / "metrics.safetensors"), values
