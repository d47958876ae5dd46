"""FAPrompt's released layout → a prompt set with the golden outputs; and what is no such checkpoint."""

from pathlib import Path

import pytest
import torch

from flawline.clip.backbone import Backbone
from flawline.detector import Detector
from flawline.errors import FlawlineError
from flawline.importers import faprompt, run
from flawline.importers.checkpoint import Checkpoint
from golden.prompt_case import Case, relative

from .conftest import settings_of
from .released import State, golden_learner, save_learner

NAME = "faprompt_released"


def test_the_imported_prompt_set_gives_the_released_outputs(
    home: Path, l14: Backbone, tmp_path: Path
) -> None:
    file = save_learner(tmp_path / "epoch_7.pth", golden_learner(l14, NAME))
    folder = run.run("faprompt", [file], tmp_path / "set", home, settings_of("l14"))
    detector, case = Detector.open(folder, home), Case.open(NAME, {})
    scores, maps = detector.method.score(case.batch.inputs, 70)
    assert relative(scores, case.gold["test.score"]) < 1e-4
    assert relative(maps, case.gold["test.map"]) < 1e-4
    assert detector.card["options"]["select"] == "first10" and detector.card["fidelity"] == "released-code"


def test_read_as_in_the_paper_it_gives_the_other_golden_outputs(
    home: Path, l14: Backbone, tmp_path: Path
) -> None:
    file = save_learner(tmp_path / "x.pth", golden_learner(l14, NAME))
    changed = {"select": "topk", "deep_half": False}
    folder = run.run("faprompt", [file], tmp_path / "set", home, settings_of("l14"), changed)
    case = Case.open("faprompt_paper_fp32", {})
    scores, maps = Detector.open(folder, home).method.score(case.batch.inputs, 70)
    assert relative(scores, case.gold["test.score"]) < 1e-4
    assert relative(maps, case.gold["test.map"]) < 1e-4


def test_sizes_are_those_of_the_checkpoint(l14: Backbone, tmp_path: Path) -> None:
    found = faprompt.read([Checkpoint.open(save_learner(tmp_path / "x.pth", golden_learner(l14, NAME)))], l14)
    sizes = {"normal_tokens": 5, "abnormal_tokens": 2, "abnormal_prompts": 10, "prior_patches": 10}
    assert {key: found.options[key] for key in sizes} == sizes
    assert found.options["prior_hidden"] == 80 and found.options["deep_depth"] == 9
    assert found.state["contexts.defective"].shape == (10, 2, 128)


FAULTS: dict[str, tuple[State, str]] = {
    "missing": (
        {"patch_meta_net.linear2.bias": torch.empty(0)},
        r"lacks prompt_learner\.patch_meta_net\.linear2",
    ),
    "prior": (
        {"patch_meta_net.linear1.weight": torch.zeros(80, 1281)},
        r"linear1\.weight: expected shape \[any, multiple of 128\], found \[80, 1281\]",
    ),
    "hidden": (
        {"patch_meta_net.linear2.weight": torch.zeros(128, 79)},
        r"linear2\.weight: expected shape \[128, 80\], found \[128, 79\]",
    ),
    "prompts": (
        {"ctx_neg": torch.zeros(1, 9, 2, 128)},
        r"tokenized_prompts_neg: expected shape \[1, 9, 77\], found \[1, 10, 77\]",
    ),
    "more": (
        {"patch_meta_net.linear3.bias": torch.zeros(1)},
        r"holds prompt_learner\.patch_meta_net\.linear3",
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_faults_are_told_in_one_line(fault: str, l14: Backbone, tmp_path: Path) -> None:
    changes, told = FAULTS[fault]
    learner = {k: v for k, v in (golden_learner(l14, NAME) | changes).items() if v.numel()}
    with pytest.raises(FlawlineError, match=told) as caught:
        faprompt.read([Checkpoint.open(save_learner(tmp_path / "x.pth", learner))], l14)
    assert "x.pth" in str(caught.value) and "\n" not in str(caught.value)
