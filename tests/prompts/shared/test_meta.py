"""The guiding losses and the teachers that Human-Free and APT share."""

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F

from flawline.clip.backbone import Backbone
from flawline.errors import FlawlineError
from flawline.prompts.human_free import HumanFree, HumanFreeOptions
from flawline.prompts.shared.batches import Batch
from flawline.prompts.shared.maps import finish_maps
from flawline.prompts.shared.meta import alignment, semantic_distance, started


def _method(tiny: Backbone, **options: object) -> HumanFree:
    return HumanFree(tiny, HumanFreeOptions(image_path="laa", context_tokens=4, **options), 0)  # type: ignore[arg-type]


def _unit(*shape: int, seed: int = 0) -> torch.Tensor:
    return F.normalize(torch.randn(shape, generator=torch.Generator().manual_seed(seed)), dim=-1)


def test_alignment_against_a_plain_loop(tiny: Backbone, batch: Batch) -> None:
    learned, taught, softness = _unit(2, tiny.dim, seed=1), _unit(2, tiny.dim, seed=2), 0.05

    def kl(feature: torch.Tensor) -> float:
        q = (taught @ feature / softness).softmax(0)
        p = (learned @ feature / softness).softmax(0)
        return float((q * (q / p).log()).sum())

    images = sum(kl(feature) for feature in batch.cls) / len(batch.cls)
    patches = [kl(feature) for feature in batch.patches.flatten(0, 2)]
    want = images + sum(patches) / len(patches)
    assert float(alignment(batch, learned, taught, softness)) == pytest.approx(want, rel=1e-4)


def test_alignment_with_a_teacher_an_image_equals_each_alone(tiny: Backbone, batch: Batch) -> None:
    learned, taught = _unit(8, 2, tiny.dim, seed=1), _unit(8, 2, tiny.dim, seed=2)
    together = alignment(batch, learned, taught, 0.05)
    alone = [
        alignment(Batch(batch.inputs.rows(torch.tensor([k])), batch.labels, batch.masks), learned[k], taught[k], 0.05)
        for k in range(8)
    ]  # fmt: skip
    assert torch.allclose(together, torch.stack(alone).mean(), rtol=1e-4)


def test_semantic_distance_is_zero_at_the_teacher_and_four_opposite_it(tiny: Backbone) -> None:
    text = _unit(2, tiny.dim)
    assert float(semantic_distance(text, text)) == pytest.approx(0.0, abs=1e-6)
    assert float(semantic_distance(-text, text)) == pytest.approx(4.0)
    assert float(semantic_distance(torch.stack([text, -text]), text)) == pytest.approx(2.0)


def test_each_noun_has_its_own_teacher(tiny: Backbone, batch: Batch) -> None:
    method = _method(tiny, noun="category")
    mixed = replace(batch, inputs=replace(batch.inputs, nouns=["gear", "leather"] * 4))
    taught = method.taught(mixed)
    assert taught.shape == (8, 2, tiny.dim)
    assert torch.equal(taught[2], method.teacher("gear")) and torch.equal(
        taught[3], method.teacher("leather")
    )
    assert not torch.allclose(method.teacher("gear"), method.teacher("leather"), atol=1e-4)
    together = method.guide_loss(mixed, method.predict(mixed))
    alone = []
    for k in range(8):
        one = Batch(mixed.inputs.rows(torch.tensor([k])), mixed.labels[k : k + 1], mixed.masks[k : k + 1])
        alone.append(method.guide_loss(one, method.predict(one)))
    assert torch.allclose(together, torch.stack(alone).mean(), rtol=1e-3)
    method.after_epoch(1.0)
    assert set(method.teachers) == {"gear", "leather"}
    assert not torch.equal(method.teacher("gear"), taught[2])


def test_teachers_are_no_part_of_the_prompt_set(tiny: Backbone, batch: Batch) -> None:
    method = _method(tiny)
    method.guide_loss(batch, method.predict(batch))
    assert set(method.state_dict()) == {"contexts.good", "contexts.defective"}
    assert not method.meta.requires_grad


def test_contexts_start_at_their_words_or_at_noise(tiny: Backbone) -> None:
    def start(words: bool) -> torch.Tensor:
        return started(
            tiny, 3, ["a damaged", "one two three four five"], torch.Generator().manual_seed(0), words
        )

    noise, by_words = start(False), start(True)
    assert noise.shape == (2, 3, tiny.text_width) and float(noise.std()) < 0.025
    ids = tiny.tokenize(["a damaged"])[0]
    assert torch.allclose((by_words - noise)[0, :2], tiny.text.token_embedding(ids[1:3]), atol=1e-6)
    assert torch.equal(by_words[0, 2], noise[0, 2])
    assert not torch.allclose(by_words[1], noise[1])  # cut to three tokens


def test_a_memory_of_good_patches_is_fused_harmonically(tiny: Backbone, batch: Batch) -> None:
    inputs = replace(batch.inputs, categories=["gear", "leather"] * 4)
    alone, fused = _method(tiny), _method(tiny, shots=2)
    assert not alone.needs_support and fused.needs_support
    good = inputs.rows(torch.tensor([0, 1]))
    fused.remember(good)
    (image, maps), (score, map_) = alone.score(inputs, 64), fused.score(inputs, 64)
    assert float(score[:2].max()) < 1e-3 and float(map_[:2].max()) < 1e-3  # the remembered images themselves
    nearest = (inputs.patches[2, 0] @ inputs.patches[0, 0].T).amax(1)
    visual = finish_maps((1 - nearest)[None] / 2, 64, fused.options.smoothing)[0]
    assert torch.allclose(map_[2], 1 / (1 / maps[2] + 1 / visual), atol=1e-5)
    assert float(score[2]) == pytest.approx(1 / (1 / float(image[2]) + 1 / float(visual.max())), abs=1e-5)


def test_the_memory_may_read_another_path_and_is_asked_for_what_it_knows(
    tiny: Backbone, batch: Batch
) -> None:
    method = _method(tiny, shots=1, memory_path="taps")
    assert method.more_paths() == {"memory": "taps"} and _method(tiny, memory_path="taps").more_paths() == {}
    inputs = replace(batch.inputs, categories=["gear"] * 8, more={"memory": batch.patches.flip(2)})
    method.remember(inputs.rows(torch.tensor([0])))
    assert float(method.score(inputs, 64)[1][0].max()) < 1e-3
    with pytest.raises(FlawlineError, match="no good images of category 'bolt'"):
        method.score(replace(inputs, categories=["bolt"] * 8), 64)


def test_a_memory_is_saved_with_the_prompt_set_but_is_no_parameter(tiny: Backbone, batch: Batch) -> None:
    method, other = _method(tiny, shots=1), _method(tiny, shots=1)
    inputs = replace(batch.inputs, categories=["gear"] * 8)
    count = sum(p.numel() for p in method.parameters())
    method.remember(inputs.rows(torch.tensor([0])))
    assert sum(p.numel() for p in method.parameters()) == count
    other.load_state_dict(method.state_dict())
    for mine, theirs in zip(method.score(inputs, 64), other.score(inputs, 64), strict=True):
        assert torch.equal(mine, theirs)
