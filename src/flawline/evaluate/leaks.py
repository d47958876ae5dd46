"""No number for images that trained the prompts: found by what the files hold, whatever they are called."""

from pathlib import Path

import pandas as pd

from flawline.errors import FlawlineError
from flawline.files import read_json


def refuse_leak(index: pd.DataFrame, prompts: Path, test: str, manifest: pd.DataFrame | None = None) -> None:
    """Stop when a test image also trained the prompts: its score would prove nothing.

    Args:
        index: the test images (columns image, sha256).
        prompts: the prompt set's folder; its card lists `train_sha256`.
        test: the test set's name, for the message.
        manifest: the image table; with it the message also names the training file of the same content.

    Raises:
        FlawlineError: the card does not say what trained, or a test image has the content of a training image, in
            whichever data set and under whichever name that one stands.
    """
    card = read_json(prompts / "card.json")
    trained = card.get("train_sha256") if isinstance(card, dict) else None
    if not isinstance(trained, list):
        raise FlawlineError(
            f"{prompts / 'card.json'} lacks train_sha256, so nobody can tell what trained these prompts",
            "tune them again (dvc repro tune)",
        )
    leaked = index[index["sha256"].isin(set(trained))].sort_values("image")
    if leaked.empty:
        return
    first, content = leaked.iloc[0]["image"], leaked.iloc[0]["sha256"]
    more = f" and {len(leaked) - 1} more" if len(leaked) > 1 else ""
    twin = _training_file(manifest, str(card.get("train_set")), first, content)
    raise FlawlineError(
        f"test image {first}{more} of '{test}' trained these prompts ({prompts})"
        + (f": {twin} has the same content" if twin else ""),
        "remove the copies from one of the two sets, or test on another set",
    )


def _training_file(manifest: pd.DataFrame | None, train_set: str, image: str, sha256: str) -> str | None:
    """A file with that content, of the training set if it has one, else of any; never the image itself."""
    if manifest is None:
        return None
    same = manifest[(manifest["sha256"] == sha256) & (manifest["image"] != image)]
    same = same.assign(elsewhere=same["dataset"] != train_set).sort_values(["elsewhere", "image"])
    return str(same.iloc[0]["image"]) if len(same) else None
