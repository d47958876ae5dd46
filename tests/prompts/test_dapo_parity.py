"""DAPO against what its released code computes on tiny random weights."""

import json
from functools import cache
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from flawline.clip.progressive import encode_pixels, encode_states
from flawline.clip.text_path import PromptTemplate
from flawline.prompts.dapo import Dapo, DapoOptions, DapoPrediction
from flawline.prompts.shared.batches import Batch, Inputs
from flawline.tune.loop import _optimiser, _trained
from flawline.tune.losses import total
from flawline.tune.type_losses import class_maps, foreground, level_losses
from golden import make_weights
from golden.prompt_case import GOLDEN, relative, released_backbone

MODES = {"dapo_released": "official", "dapo_clean": "clean"}
LEVELS = (6, 12, 18, 24)


class Case:
    """A golden case at its starting values; `parameters` maps golden names to the method's parameters."""

    def __init__(self, name: str, **options: Any) -> None:
        self.gold = load_file(GOLDEN / f"{name}.safetensors")
        self.card = json.loads((GOLDEN / f"{name}.json").read_text(encoding="utf-8"))
        shared = load_file(GOLDEN / "dapo_released.safetensors")
        self.gold = {key: value for key, value in shared.items() if key.startswith("in.")} | self.gold
        words = self.card["train_words"]
        given = {"defects": {word: word for word in words}, "training_masks": "truncate", "levels": [*LEVELS]}
        chosen = DapoOptions(image_path="plain", text_mode=MODES[name], **(given | options))  # type: ignore[arg-type]
        self.method = Dapo(released_backbone(), chosen, 0)
        images = torch.from_numpy(make_weights.images("images", 4, 70, 31))
        none = torch.zeros(4, 1)
        defects = [["good", *words][place] for place in self.gold["in.defect_ids"].tolist()]
        masks = self.gold["in.masks"][:, 0]
        self.batch = Batch(Inputs(none, none, pixels=images), self.gold["in.labels"], masks, defects)
        m = self.method
        assert m.deep_visual is not None and m.deep_text is not None
        self.parameters = {
            "context_normal": m.context_good,
            "context_abnormal": m.context_defect,
            "deep_visual": m.deep_visual,
        }
        for k, adapter in enumerate(m.adapters):
            self.parameters |= {f"adapter.{k}.weight": adapter.weight, f"adapter.{k}.bias": adapter.bias}
        for name_, value in self.parameters.items():
            value.data.copy_(self.recipe(name_))
        m.deep_text.data.copy_(torch.stack([self.recipe(f"deep_text.{k}") for k in range(12)]))
        self.parameters["deep_text"] = m.deep_text

    def recipe(self, name: str) -> Tensor:
        """A starting value; contexts and deep text tokens are drawn like the token table."""
        value = torch.from_numpy(make_weights.from_recipe(self.card["recipes"][name]))
        if not name.startswith(("context", "deep_text")):
            return value
        table = released_backbone().text.token_embedding.weight
        return value * table.std(0) + table.mean(0)


@cache
def stepped(name: str) -> tuple[Case, DapoPrediction, dict[str, Tensor]]:
    """A case after one forward and backward pass; shared, because the towers are deep."""
    case = Case(name)
    prediction = case.method.predict(case.batch)
    terms = case.method.own_losses(case.batch, prediction)
    total(case.method.stages()[0].losses, terms).backward()
    assert isinstance(prediction, DapoPrediction)
    return case, prediction, terms


@pytest.mark.parametrize("name", MODES)
def test_text_features_are_the_released_ones(name: str) -> None:
    case, prediction, _ = stepped(name)
    text = prediction.text
    pair = torch.stack([text[0], torch.nn.functional.normalize(text[1:].mean(0), dim=-1)])
    assert relative(text, case.gold["out.text"]) < 1e-4
    assert relative(pair, case.gold["out.text_pair"]) < 1e-4
    with torch.no_grad():
        contexts = torch.stack([case.method.context_good, case.method.context_defect])
        how = (case.method.deep_text, 0.01, MODES[name] == "clean")
        states = ["flawless object", "bent anomaly object"]
        raw = encode_states(released_backbone(), contexts, states, *how)
        unseen = case.method.encode_words(case.card["test_words_unseen"], "object")
    assert relative(raw, case.gold["out.text_raw"][:2]) < 1e-4
    assert relative(unseen, case.gold["test_unseen.text"]) < 1e-4


def test_prompts_are_the_released_tokens() -> None:
    case = Case("dapo_released")
    for key, words in (("in.tokens", "train_words"), ("in.tokens_unseen", "test_words_unseen")):
        states = ["flawless object", *(f"{word} anomaly object" for word in case.card[words])]
        for row, state in zip(case.gold[key], states, strict=True):
            template = PromptTemplate.context(5, state).tokenize(released_backbone())
            ids = template.ids[: len(row)].clone()
            assert template.slots.tolist() == [1, 2, 3, 4, 5] and int(row.argmax()) == template.eot
            ids[1:6] = row[1:6]  # places of learned tokens: whatever stands there is replaced
            assert torch.equal(ids, row.long())


def test_image_and_patch_features_are_the_released_ones() -> None:
    case = Case("dapo_released")
    gold = case.gold
    with torch.no_grad():
        cls, patches = case.method.see(case.batch.inputs.pixels)
        _, taps = encode_pixels(
            released_backbone(), case.batch.inputs.pixels, case.method.deep_visual, 0.01, [6, 24]
        )
    assert relative(cls, gold["out.image_features"]) < 1e-4
    for row, level in enumerate(LEVELS):
        assert relative(patches[:, row], gold[f"out.patch_features_{level}"]) < 1e-4
    for tap, level in zip(taps, (6, 24), strict=True):
        assert relative(tap, gold[f"out.tapped_{level}"][:, 1:]) < 1e-4


@pytest.mark.parametrize("name", MODES)
def test_probabilities_and_losses_are_the_released_ones(name: str) -> None:
    case, prediction, terms = stepped(name)
    gold = case.gold
    assert relative(prediction.logits, gold["out.image_logits"]) < 1e-4
    target = gold["in.defect_ids"][:, None, None] * foreground(case.batch.masks, "truncate")
    if "out.target" in gold:
        assert torch.equal(target, gold["out.target"].long())
    names = ("focal", "dice_normal", "dice_abnormal")
    for row, level in enumerate(LEVELS):
        assert relative(prediction.patches[:, row], gold[f"out.patch_prob_{level}"]) < 1e-4
        mine = level_losses(class_maps(prediction.patches[:, row], 70), target)
        for term, value in zip(names, mine, strict=True):
            assert relative(value, gold[f"loss.{term}_{level}"]) < 1e-4
    local = terms["type_focal"] + terms["good_dice"] + terms["defect_dice"]
    assert relative(local, gold["loss.local"]) < 1e-4
    assert relative(terms["global_ce"], gold["loss.global_ce"]) < 1e-4
    (stage,) = case.method.stages()
    assert relative(total(stage.losses, terms), gold["loss.total"]) < 1e-4


@pytest.mark.parametrize("name", MODES)
def test_gradients_and_one_step_are_the_released_ones(name: str) -> None:
    """Adam's first step is about rate times sign: only values with a clear gradient are compared."""
    case, _, _ = stepped(name)
    compared = [key.removeprefix("grad.") for key in case.gold if key.startswith("grad.")]
    assert {"context_normal", "context_abnormal", "deep_text", "deep_visual", "adapter.0.weight"} <= {
        *compared
    }
    for key in compared:
        grad = case.parameters[key].grad
        assert grad is not None and relative(grad, case.gold[f"grad.{key}"]) < 1e-3, key
    (stage,) = case.method.stages()
    before = {key: value.detach().clone() for key, value in case.parameters.items()}
    _optimiser(stage, _trained(case.method, stage)).step()
    for key in compared:
        if f"after_step.{key}" in case.gold:
            clear = case.gold[f"grad.{key}"].abs() > 1e-5
            moved = (case.parameters[key].detach() - case.gold[f"after_step.{key}"]).abs()[clear]
            assert clear.any() and float(moved.max()) < 1e-5, key
    for key, value in before.items():  # the case is shared
        case.parameters[key].data.copy_(value)


@pytest.mark.parametrize("name", MODES)
def test_scores_and_maps_are_the_released_ones(name: str) -> None:
    """With the training words and with unseen ones; released maps are sums over the levels."""
    case, _, _ = stepped(name)
    for prefix, words in (("test", []), ("test_unseen", case.card["test_words_unseen"])):
        case.method.options = case.method.options.model_copy(update={"test_words": words})
        scores, maps = case.method.score(case.batch.inputs, 70)
        assert relative(scores, case.gold[f"{prefix}.score"]) < 1e-4
        assert relative(maps * 4, case.gold[f"{prefix}.map"]) < 1e-4
