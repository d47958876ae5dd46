"""Counted operations: the same every time, and more where a method does more."""

from pathlib import Path

import pytest

from flawline.clip.backbone import load_backbone
from flawline.clip.image_path import resolve_paths
from flawline.errors import FlawlineError
from flawline.gate.cost import operations, operations_or_none
from flawline.prompts import method_class, method_options
from flawline.prompts.shared.prompt_set import save_prompt_set
from flawline.settings import BackboneSettings, load_settings
from flawline.workspace import Cell, Workspace


def prompt_set(workspace: Workspace, name: str, size: int = 64) -> Path:
    """An untrained prompt set on a small backbone of random weights."""
    settings = load_settings(workspace.params)
    small = BackboneSettings(name="flawline-tiny", weights="none", image_size=size, seed=1)
    backbone = load_backbone(small, workspace.root)
    options = method_options(name, settings.methods[name])
    method = method_class(name)(backbone, options, 0)
    paths = resolve_paths(backbone, settings.features.paths)
    card = {
        "method": name, "train_set": "castings", "seed": size, "backbone": backbone.card(),
        "options": options.model_dump(), "image_paths": {"main": paths[options.image_path].model_dump()},
        "threshold": {"value": 0.5, "quantile": 0.95, "from": "good training images"},
    }  # fmt: skip
    folder = workspace.prompts(Cell(name, "castings", size))
    save_prompt_set(folder, method, card)
    return folder


def test_the_count_is_exact_and_follows_what_is_computed(workspace: Workspace) -> None:
    learned = prompt_set(workspace, "human_free")
    counted = operations(learned, workspace.root)
    assert counted == operations(learned, workspace.root), "no clock, no chance"
    assert counted == operations(prompt_set(workspace, "words"), workspace.root), "only the prompts differ"
    assert operations(prompt_set(workspace, "faprompt"), workspace.root) > counted, (
        "its prompts depend on the image"
    )
    larger = operations(prompt_set(workspace, "human_free", 128), workspace.root)
    assert larger > 3 * counted, "four times the patches"


def test_what_cannot_be_loaded_has_no_count(workspace: Workspace) -> None:
    folder = prompt_set(workspace, "words")
    (folder / "card.json").write_text("{}")
    with pytest.raises(FlawlineError):
        operations(folder, workspace.root)
    assert operations_or_none(folder, workspace.root) is None
