"""What a cell of the matrix was made from, by hash: the prompt set, the test set's features, the image table."""

import hashlib
from pathlib import Path
from typing import Any

from flawline.errors import FlawlineError
from flawline.files import read_json, sha256_file, sha256_folder
from flawline.workspace import Cell, Workspace

PROVENANCE = "provenance.json"
_KEYS = ("prompts_sha256", "features_sha256", "manifest_sha256")


def provenance(workspace: Workspace, cell: Cell, test: str) -> dict[str, str]:
    """The hashes that the evaluation folder of a cell keeps as provenance.json.

    `prompts_sha256` is the hash that the registry knows the prompt set by. `features_sha256` is of the index (images by
    their content) and the card (backbone and paths) of the test set's features, which the arrays follow from: hashing
    gigabytes again for every cell would say no more. `manifest_sha256` is of out/manifest.parquet.

    Raises:
        FlawlineError: one of them is missing.
    """
    features = workspace.features("test", test)
    sides = "".join(_file(features / name) for name in ("index.parquet", "card.json"))
    prompts = workspace.prompts(cell)
    if not (prompts / "card.json").is_file():
        raise FlawlineError(f"{prompts / 'card.json'} is missing", "run the tune stage (dvc repro)")
    return {
        "prompts_sha256": sha256_folder(prompts),
        "features_sha256": hashlib.sha256(sides.encode()).hexdigest(),
        "manifest_sha256": _file(workspace.manifest),
    }


def recorded(workspace: Workspace, cell: Cell, test: str) -> dict[str, str]:
    """What an evaluation folder says of itself, checked against the prompt set and the image table as they are now.

    Raises:
        FlawlineError: there is no provenance.json, it is no such file, or the cell was evaluated with something else.
    """
    path = workspace.evaluation(cell, test) / PROVENANCE
    found: Any = read_json(path)
    if not isinstance(found, dict) or not all(isinstance(found.get(key), str) for key in _KEYS):
        raise FlawlineError(f"{path} names no {', '.join(_KEYS)}", "delete it and run its stage again")
    now = {
        "prompts_sha256": sha256_folder(workspace.prompts(cell)),
        "manifest_sha256": _file(workspace.manifest),
    }
    places = {"prompts_sha256": workspace.prompts(cell), "manifest_sha256": workspace.manifest}
    for key, value in now.items():
        if found[key] != value:
            raise FlawlineError(
                f"{path}: evaluated with {places[key]} {found[key][:12]}, which is now {value[:12]}",
                "run the evaluate stage again (dvc repro)",
            )
    return {key: found[key] for key in _KEYS}


def _file(path: Path) -> str:
    try:
        return sha256_file(path)
    except FileNotFoundError as error:
        raise FlawlineError(f"{path} is missing", "run the stage that makes it (dvc repro)") from error
