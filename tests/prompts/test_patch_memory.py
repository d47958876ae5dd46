from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from pydantic import ValidationError

from flawline.clip.backbone import Backbone
from flawline.errors import FlawlineError
from flawline.prompts.patch_memory import PatchMemoryMethod, PatchMemoryOptions
from flawline.prompts.shared.batches import Batch, Inputs


def _method(tiny: Backbone, **options: object) -> PatchMemoryMethod:
    return PatchMemoryMethod(tiny, PatchMemoryOptions(image_path="vv", **options), 0)  # type: ignore[arg-type]


def _named(inputs: Inputs, categories: list[str]) -> Inputs:
    return replace(inputs, categories=categories)


def test_it_has_neither_words_nor_anything_to_train(tiny: Backbone) -> None:
    method = _method(tiny)
    assert method.text_features("gear").shape == (0, tiny.dim)
    assert method.stages() == [] and list(method.parameters()) == [] and method.words() == {}


def test_a_strange_patch_is_found_where_it_is(tiny: Backbone, batch: Batch) -> None:
    method = _method(tiny, smoothing=0.0)
    good = batch.inputs.rows(torch.tensor([0, 2]))
    method.remember(good)
    patches = good.patches.clone()
    patches[0, :, 9] = F.normalize(torch.ones(tiny.dim), dim=0)  # row 1, column 1 of 8
    scores, maps = method.score(replace(good, patches=patches), 64)
    row, column = divmod(int(maps[0].argmax()), 64)
    assert (row // 8, column // 8) == (1, 1)
    assert float(scores[0]) > 0.1 and float(scores[1]) < 1e-6 and float(maps[1].max()) < 1e-6


@pytest.mark.parametrize(("share", "count"), [(0.0, 1), (0.05, 4), (1.0, 64)])
def test_image_score_is_the_mean_of_the_highest_patches(
    tiny: Backbone, batch: Batch, share: float, count: int
) -> None:
    method = _method(tiny, top_share=share)
    method.remember(batch.inputs.rows(torch.tensor([0])))
    distance = method.memory.distance(batch.patches, []).mean(1)
    scores, _ = method.score(batch.inputs, 32)
    want = distance.sort(dim=1, descending=True).values[:, :count].mean(1)
    assert torch.allclose(scores, want, atol=1e-6)


def test_the_category_of_an_image_picks_its_memory(tiny: Backbone, batch: Batch) -> None:
    method = _method(tiny)
    method.remember(_named(batch.inputs.rows(torch.tensor([0, 1])), ["gear", "mesh"]))
    same, _ = method.score(_named(batch.inputs.rows(torch.tensor([0, 1])), ["gear", "mesh"]), 32)
    other, _ = method.score(_named(batch.inputs.rows(torch.tensor([0, 1])), ["mesh", "gear"]), 32)
    assert float(same.max()) < 1e-6 and float(other.min()) > 0.1


def test_scoring_without_good_images_is_refused(tiny: Backbone, batch: Batch) -> None:
    with pytest.raises(FlawlineError, match=r"no good images of category 'gear' .*support"):
        _method(tiny).score(_named(batch.inputs, ["gear"] * 8), 32)


@pytest.mark.parametrize("wrong", [{"shots": 0}, {"top_share": 1.5}, {"k": 4}])
def test_wrong_options_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        PatchMemoryOptions(image_path="vv", **wrong)  # type: ignore[arg-type]
