"""Stage: one prompt set on one test set that did not train it."""

from pathlib import Path

import pandas as pd
from PIL import Image

from flawline.data.images import load_rgb
from flawline.determinism import make_torch_deterministic
from flawline.errors import FlawlineError
from flawline.evaluate.cell import Identity, evaluate_cell, write_cell
from flawline.evaluate.masks import read_masks
from flawline.files import inside, read_json, read_parquet
from flawline.settings import Settings
from flawline.workspace import Cell, Workspace


def run(workspace: Workspace, settings: Settings, cell: Cell, test: str) -> None:
    """Score the cached features of `test` with the prompt set of `cell` and write its evaluation folder.

    Raises:
        FlawlineError: an input is missing or broken, or a test image trained the prompts.
    """
    from flawline.detector import score_features

    prompts, features = workspace.prompts(cell), workspace.features("test", test)
    index = read_parquet(features / "index.parquet")
    refuse_leak(index, prompts, test)
    make_torch_deterministic(settings.evaluate.seed)
    scores, maps = score_features(workspace, settings, prompts, features)
    masks = read_masks(index, workspace, maps.shape[-1], settings.data.max_pixels)
    result = evaluate_cell(
        index,
        scores,
        maps,
        masks,
        settings.evaluate,
        Identity(method=cell.method, seed=cell.seed, train_set=cell.train, test_set=test),
    )

    def picture(path: str) -> Image.Image:
        return load_rgb(inside(workspace.data, path), settings.data.max_pixels)

    write_cell(result, workspace.evaluation(cell, test), picture)


def refuse_leak(index: pd.DataFrame, prompts: Path, test: str) -> None:
    """Stop when a test image also trained the prompts: its score would prove nothing.

    Args:
        index: the features index of the test set (image, sha256).
        prompts: the prompt set's folder; its card lists `train_sha256`.
        test: the test set's name, for the message.
    """
    card = read_json(prompts / "card.json")
    trained = card.get("train_sha256") if isinstance(card, dict) else None
    if not isinstance(trained, list):
        raise FlawlineError(
            f"{prompts / 'card.json'} lacks train_sha256, so nobody can tell what trained these prompts",
            "tune them again (dvc repro tune)",
        )
    leaked = sorted(index.loc[index["sha256"].isin(trained), "image"])
    if leaked:
        more = f" and {len(leaked) - 1} more" if len(leaked) > 1 else ""
        raise FlawlineError(
            f"test image {leaked[0]}{more} of '{test}' trained these prompts ({prompts})",
            "remove the copies from one of the two sets, or test on another set",
        )
