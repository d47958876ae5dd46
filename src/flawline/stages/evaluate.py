"""Stage: one prompt set on one test set that did not train it."""

from pathlib import Path

import pandas as pd
from PIL import Image

from flawline.data.images import load_rgb
from flawline.data.vocabulary import load_vocabulary
from flawline.determinism import make_torch_deterministic
from flawline.errors import FlawlineError
from flawline.evaluate.cell import Identity, evaluate_cell, write_cell
from flawline.evaluate.masks import read_masks
from flawline.evaluate.types import TypeScores
from flawline.features.store import FeatureSet
from flawline.features.support import draw_support
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
    vocabulary = load_vocabulary(workspace.vocabulary)
    words = [
        vocabulary.defect_words(test, name) if bad else ""
        for name, bad in zip(index["defect"], index["label"], strict=True)
    ]
    asked = sorted(set(words) - {""})
    scored = score_features(workspace, settings, prompts, features, asked)
    scores, maps = scored.image, scored.maps
    masks = read_masks(index, workspace, maps.shape[-1], settings.data.max_pixels)
    result = evaluate_cell(
        index,
        scores,
        maps,
        masks,
        settings.evaluate,
        Identity(method=cell.method, seed=cell.seed, train_set=cell.train, test_set=test),
        None if scored.types is None else TypeScores(asked, scored.types),
        words,
    )

    def picture(path: str) -> Image.Image:
        return load_rgb(inside(workspace.data, path), settings.data.max_pixels)

    write_cell(result, workspace.evaluation(cell, test), picture, _support(workspace, cell, test))


def _support(workspace: Workspace, cell: Cell, test: str) -> dict[str, list[str]]:
    """The good images of the test set that a few-shot method looked at: hashes by category."""
    asked = read_json(workspace.prompts(cell) / "card.json").get("support")
    if not asked:
        return {}
    features = FeatureSet.open(workspace.features("support", test))
    picked = features.index.iloc[draw_support(features, asked["shots"], cell.seed).numpy()]
    return {str(name): sorted(part["sha256"]) for name, part in picked.groupby("category")}


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
