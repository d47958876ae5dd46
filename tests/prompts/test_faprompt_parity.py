"""FAPrompt against what its released code computes on tiny random weights."""

import pytest
import torch

from flawline.clip.backbone import Backbone
from flawline.prompts.faprompt import FAPrompt, FAPromptOptions
from flawline.prompts.shared.maps import upsample
from golden.prompt_case import Case, relative, released_backbone

NAMES = {"contexts.good": "context_normal", "contexts.defective": "context_abnormal"}
CASES: dict[str, dict[str, object]] = {
    "faprompt_paper_fp32": {},
    "faprompt_paper": {"deep_half": True},
    "faprompt_released": {"deep_half": True, "select": "first10"},
}
BOTH = pytest.mark.parametrize("name", CASES)


def method_of(backbone: Backbone, seed: int = 0, **options: object) -> FAPrompt:
    return FAPrompt(backbone, FAPromptOptions(image_path="vv", **options), seed)  # type: ignore[arg-type]


def at_start(name: str, **options: object) -> tuple[Case, FAPrompt]:
    case = Case.open(name, NAMES)
    method = method_of(released_backbone(), **CASES[name], **options)
    case.start(method)
    return case, method


# --- parity with the released code ----------------------------------------------------------------------
@BOTH
def test_pass_1_is_the_released_one(name: str) -> None:
    case, method = at_start(name)
    gold, inputs = case.gold, case.batch.inputs
    with torch.no_grad():
        prompts = method.prompts("object")
        assert relative(prompts.normal, gold["out.text_normal_raw"]) < 1e-4
        assert relative(prompts.abnormal, gold["out.text_abnormal_raw"]) < 1e-4
        text = method.text_features("object")
        assert relative(text, gold["out.text_pass1"]) < 1e-4
        prediction = method.predict(case.batch)
        assert relative(prediction.patches[:, 0], gold["out.patch_prob_pass1"]) < 1e-4
    assert relative(inputs.patches[:, 0], gold["out.patch_features"][:, 1:]) < 1e-4
    assert relative(inputs.cls, gold["out.image_features"]) < 1e-4


@BOTH
def test_prior_and_pass_2_are_the_released_ones(name: str) -> None:
    case, method = at_start(name)
    gold, patches = case.gold, case.batch.inputs.patches
    with torch.no_grad():
        text = method.text_features("object")
        chosen = method.chosen(patches, text)
        read = patches[:, 0][torch.arange(4)[:, None], chosen]
        assert relative(read, gold["out.prior_tokens"]) < 1e-4
        if method.options.select == "topk":
            assert torch.equal(chosen, gold["out.topk_index"])
        else:
            assert chosen.tolist() == [list(range(10))] * 4
            assert not torch.equal(chosen, gold["out.topk_index"])
        prior = method.prior_of(patches, text)
        assert relative(prior, gold["out.prior_omega"]) < 1e-4
        own = method.own_abnormal(method.prompts("object"), prior)
        assert relative(own, gold["out.text_abnormal_raw_pass2"]) < 1e-4
        prediction = method.predict(case.batch)
    assert relative(prediction.specific_text, gold["out.text_pass2"]) < 1e-4
    assert relative(prediction.specific[:, 0], gold["out.patch_prob_pass2"]) < 1e-4
    assert relative(prediction.image[:, 1], gold["out.text_probability"]) < 1e-4
    assert relative(prediction.patches[:, 0, :, 1].amax(1), gold["out.max_score_pass1"]) < 1e-4
    assert relative(prediction.specific[:, 0, :, 1].amax(1), gold["out.max_score_pass2"]) < 1e-4
    for number, values in ((1, prediction.patches), (2, prediction.specific)):
        if f"out.map_pass{number}" in gold:
            assert relative(upsample(values[:, 0, :, 1], 70), gold[f"out.map_pass{number}"]) < 1e-4


@BOTH
def test_losses_are_the_released_ones(name: str) -> None:
    case, method = at_start(name)
    _, terms, loss = case.losses(method)
    gold = case.gold
    pairs = {
        "focal": gold["loss.focal_map1"],
        "dice": gold["loss.dice_abnormal_map1"] + gold["loss.dice_normal_map1"],
        "focal_specific": gold["loss.focal_map2"],
        "dice_specific": gold["loss.dice_abnormal_map2"] + gold["loss.dice_normal_map2"],
        "global_ce": gold["loss.global_ce"],
        "score_focal": gold["loss.score_focal"],
        "orthogonality": gold["loss.orthogonality"],
        "prior": gold["loss.prior"],
    }
    assert set(pairs) == set(terms) == set(method.stages()[0].losses)
    errors = {term: relative(terms[term], want) for term, want in pairs.items()}
    assert max(errors.values()) < 1e-4, errors
    local = terms["focal"] + terms["dice"] + 0.5 * (terms["focal_specific"] + terms["dice_specific"])
    assert relative(local, gold["loss.local"]) < 1e-4
    assert relative(loss, gold["loss.total"]) < 1e-4


@BOTH
def test_gradients_are_the_released_ones(name: str) -> None:
    case, method = at_start(name)
    errors = case.gradient_errors(method)
    assert len(errors) == 2 + 8 + 4 + 1
    assert max(errors.values()) < (1e-4 if name.endswith("fp32") else 1e-3), errors


@BOTH
def test_parameters_after_one_step_of_the_loop_are_the_released_ones(name: str) -> None:
    case, method = at_start(name, epochs=1)
    errors = case.step_errors(method)
    assert max(errors.values()) < 1e-5, errors


@BOTH
def test_maps_and_scores_are_the_released_ones(name: str) -> None:
    case, method = at_start(name)
    scores, maps = method.score(case.batch.inputs, 70)
    assert relative(scores, case.gold["test.score"]) < 1e-4
    assert relative(scores, case.gold["out.score_train"]) < 1e-4
    assert relative(maps, case.gold["test.map"]) < 1e-4


def test_prompts_are_the_released_sentences() -> None:
    case, method = at_start("faprompt_paper_fp32")
    backbone = released_backbone()
    for state, golden in (("good", "in.tokens_normal"), ("defective", "in.tokens_abnormal")):
        sentence = method.words()[state][0].replace("[N]×5", "N N N N N").replace("[A]×2", "A A")
        assert torch.equal(backbone.tokenize([sentence.format(noun="object")]), case.gold[golden])
    assert len(method.words()["defective"]) == 10
