"""Stage: one prompt set on one test set that did not train it."""

import numpy as np
from PIL import Image

from flawline.data.images import load_rgb
from flawline.determinism import make_torch_deterministic
from flawline.evaluate.cell import Identity, evaluate_stream, write_cell
from flawline.evaluate.context import read_context
from flawline.evaluate.masks import read_masks
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
    from flawline.evaluate.scoring import FeatureScorer

    prompts, features = workspace.prompts(cell), workspace.features("test", test)
    index = read_parquet(features / "index.parquet")
    context = read_context(workspace, cell, test, index)
    make_torch_deterministic(settings.evaluate.seed)
    asked = sorted(set(context.words) - {""})
    score = FeatureScorer(workspace, settings, prompts, features, asked)
    folder = workspace.evaluation(cell, test)
    folder.parent.mkdir(parents=True, exist_ok=True)

    def masks(rows: np.ndarray) -> list[np.ndarray | None]:
        return read_masks(index.iloc[rows], workspace, score.side, settings.data.max_pixels)

    result = evaluate_stream(
        index,
        score,
        masks,
        settings.evaluate,
        Identity(method=cell.method, seed=cell.seed, train_set=cell.train, test_set=test),
        context,
        asked,
        folder.parent,
    )

    def picture(path: str) -> Image.Image:
        return load_rgb(inside(workspace.data, path), settings.data.max_pixels)

    write_cell(result, folder, picture, _support(workspace, cell, test))


def _support(workspace: Workspace, cell: Cell, test: str) -> dict[str, list[str]]:
    """The good images of the test set that a few-shot method looked at: hashes by category."""
    asked = read_json(workspace.prompts(cell) / "card.json").get("support")
    if not asked:
        return {}
    features = FeatureSet.open(workspace.features("support", test))
    picked = features.index.iloc[draw_support(features, asked["shots"], cell.seed).numpy()]
    return {str(name): sorted(part["sha256"]) for name, part in picked.groupby("category")}
