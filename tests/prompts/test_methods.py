"""What holds for every method."""

from dataclasses import replace

import pytest
import torch

from flawline.clip.backbone import Backbone
from flawline.errors import FlawlineError
from flawline.files import read_json
from flawline.prompts import method_class, method_names, method_options, validate_methods
from flawline.prompts.shared.base import PromptMethod
from flawline.prompts.shared.batches import Batch
from flawline.prompts.shared.maps import finish_maps, upsample
from flawline.settings import load_settings, parse_settings
from flawline.workspace import Workspace


@pytest.fixture(params=method_names())
def method(request: pytest.FixtureRequest, tiny: Backbone) -> PromptMethod:
    options = method_options(request.param, {"image_path": "vv"})
    return method_class(request.param)(tiny, options, 0).eval()


def test_scores_depend_neither_on_batch_size_nor_on_order(method: PromptMethod, batch: Batch) -> None:
    nouns = ["gear", "leather", "gear", "mesh"] * 2
    inputs = replace(batch.inputs, nouns=nouns)
    scores, maps = method.score(inputs, 64)
    order = torch.tensor([3, 1, 7, 0, 6, 2, 5, 4])
    shuffled, shuffled_maps = method.score(inputs.rows(order), 64)
    assert torch.allclose(scores[order], shuffled, atol=1e-6)
    assert torch.allclose(maps[order], shuffled_maps, atol=1e-6)
    for k in range(len(nouns)):
        alone, _ = method.score(inputs.rows(torch.tensor([k])), 64)
        assert torch.allclose(alone[0], scores[k], atol=1e-6)


def test_scoring_changes_no_parameter(method: PromptMethod, batch: Batch) -> None:
    before = {name: value.clone() for name, value in method.state_dict().items()}
    method.score(batch.inputs, 64)
    assert all(torch.equal(value, before[name]) for name, value in method.state_dict().items())


def test_scores_and_maps_are_probabilities(method: PromptMethod, batch: Batch) -> None:
    scores, maps = method.score(batch.inputs, 48)
    assert maps.shape == (8, 48, 48)
    for values in (scores, maps):
        assert float(values.min()) >= 0 and float(values.max()) <= 1


def test_unknown_method_names_the_nearest() -> None:
    with pytest.raises(FlawlineError, match=r"methods\.human_fre is no method — did you mean human_free"):
        method_class("human_fre")


def test_shared_pieces_are_no_methods() -> None:
    assert {"words", "human_free"} <= set(method_names())
    assert not {"base", "maps", "prompt_set", "sentences"} & set(method_names())


def test_options_and_image_paths_of_params_are_checked(workspace: Workspace) -> None:
    settings = load_settings(workspace.params)
    validate_methods(settings)
    raw = settings.model_dump()
    raw["methods"]["human_free"]["learning_rate"] = "fast"
    with pytest.raises(FlawlineError, match=r"methods\.human_free\.learning_rate.*'fast'"):
        validate_methods(parse_settings(raw))
    raw["methods"]["human_free"] |= {"learning_rate": 0.1, "image_path": "nowhere"}
    with pytest.raises(FlawlineError, match=r"human_free\.image_path: no 'nowhere' in features\.paths"):
        validate_methods(parse_settings(raw))


def test_maps_keep_their_place_and_smoothing_keeps_their_mean() -> None:
    patches = torch.zeros(1, 16)
    patches[0, 6] = 1.0  # row 1, column 2 of a 4x4 grid
    sharp = upsample(patches, 32)[0]
    y, x = divmod(int(sharp.argmax()), 32)
    assert 8 <= y < 16 and 16 <= x < 24
    smooth = finish_maps(patches, 32, 2.0)[0]
    assert float(smooth.max()) < float(sharp.max())
    assert float(smooth.mean()) == pytest.approx(float(sharp.mean()), rel=1e-3)


def test_prompt_set_saved_and_loaded_scores_as_in_memory(
    method: PromptMethod, batch: Batch, tiny: Backbone, tmp_path
) -> None:
    from flawline.prompts.shared.prompt_set import load_prompt_set, save_prompt_set

    card = {
        "method": method.name,
        "backbone": tiny.card(),
        "image_paths": {"main": {"attention": "vv", "first_block": 1, "levels": [6]}},
        "options": method.options.model_dump(),
        "seed": 0,
        "threshold": {"value": 0.5, "quantile": 0.95, "from": "good training images"},
    }
    save_prompt_set(tmp_path / "set", method, card)
    assert read_json(tmp_path / "set" / "card.json")["method"] == method.name
    loaded, paths = load_prompt_set(tmp_path / "set", tmp_path)
    assert paths["main"].attention == "vv"
    for mine, theirs in zip(
        method.score(batch.inputs, 64),
        loaded.score(batch.inputs, 64),
        strict=True,
    ):
        assert torch.allclose(mine, theirs, atol=1e-6)


@pytest.mark.parametrize("damage", ["truncated", "missing", "other weights", "no card"])
def test_broken_prompt_set_is_refused_by_name(damage: str, tiny: Backbone, tmp_path) -> None:
    from flawline.files import write_json
    from flawline.prompts.shared.prompt_set import load_prompt_set, save_prompt_set

    method = method_class("human_free")(tiny, method_options("human_free", {"image_path": "vv"}), 0)
    backbone = tiny.card() | ({"weights_sha256": "0" * 64} if damage == "other weights" else {})
    card = {
        "method": "human_free", "backbone": backbone, "options": method.options.model_dump(), "seed": 0,
        "image_paths": {"main": {"attention": "vv", "first_block": 1, "levels": [6]}}, "threshold": {"value": 0.5},
    }  # fmt: skip
    folder = tmp_path / "set"
    save_prompt_set(folder, method, card)
    if damage == "truncated":
        (folder / "prompts.safetensors").write_bytes((folder / "prompts.safetensors").read_bytes()[:100])
    elif damage == "missing":
        (folder / "prompts.safetensors").unlink()
    elif damage == "no card":
        write_json(folder / "card.json", {"method": "human_free"})
    with pytest.raises(FlawlineError, match="set"):
        load_prompt_set(folder, tmp_path)
