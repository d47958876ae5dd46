"""AnomalyCLIP's released layout → a prompt set with the golden outputs; and what is no such checkpoint."""

from pathlib import Path

import pytest
import torch
from torch import Tensor

from flawline.clip.backbone import Backbone
from flawline.detector import Detector
from flawline.errors import FlawlineError
from flawline.importers import anomalyclip, run
from flawline.importers.checkpoint import Checkpoint
from flawline.importers.imported import Imported
from golden.prompt_case import Case, relative

from .conftest import settings_of
from .released import State, golden_learner, random_learner, save_learner

NAME = "anomalyclip_released"


def read(folder: Path, learner: State, backbone: Backbone) -> Imported:
    return anomalyclip.read([Checkpoint.open(save_learner(folder / "epoch_15.pth", learner))], backbone)


def test_the_imported_prompt_set_gives_the_released_outputs(
    home: Path, l14: Backbone, tmp_path: Path
) -> None:
    file = save_learner(tmp_path / "epoch_15.pth", golden_learner(l14, NAME))
    folder = run.run("anomalyclip", [file], tmp_path / "set", home, settings_of("l14"))
    detector, case = Detector.open(folder, home), Case.open(NAME, {})
    scores, maps = detector.method.score(case.batch.inputs, 70)
    assert relative(scores, case.gold["test.score"]) < 1e-4
    assert relative(maps, case.gold["test.map"]) < 1e-4
    path = detector.paths["main"]  # blocks 6 to 24, read after the last, as the golden features were
    assert (path.attention, path.first_block, path.levels) == ("vv", 6, [24])
    assert not path.image_norm and path.radius is None and path.space == "joint"


def test_without_the_released_rounding_it_gives_the_other_golden_outputs(
    home: Path, l14: Backbone, tmp_path: Path
) -> None:
    file = save_learner(tmp_path / "x.pth", golden_learner(l14, NAME))
    folder = run.run("anomalyclip", [file], tmp_path / "set", home, settings_of("l14"), {"deep_half": False})
    case = Case.open("anomalyclip_fp32", {})
    text = Detector.open(folder, home).method.text_features("object")
    assert relative(text, case.gold["out.text"]) < 1e-4


@pytest.mark.parametrize(("tokens", "length"), [(12, 4), (3, 2)])
def test_sizes_are_those_of_the_checkpoint(tokens: int, length: int, tiny: Backbone, tmp_path: Path) -> None:
    learner = random_learner(tiny)
    if tokens != 12:
        kept = {key: value for key, value in learner.items() if key.startswith("compound_prompt_")}
        learner = kept | {f"compound_prompts_text.{k}": torch.ones(length, tiny.text_width) for k in range(3)}
        learner |= {f"ctx_{side}": torch.ones(1, 1, tokens, tiny.text_width) for side in ("pos", "neg")}
        for side, sentence in (("pos", "X X X object."), ("neg", "X X X damaged object.")):
            ids = tiny.tokenize([sentence])[None]
            embedded = tiny.text.token_embedding(ids)
            learner |= {f"token_prefix_{side}": embedded[:, :, :1], f"tokenized_prompts_{side}": ids.int()}
            learner |= {f"token_suffix_{side}": embedded[:, :, 1 + tokens :].detach()}
    found = read(tmp_path, learner, tiny)
    assert found.options["context_tokens"] == tokens and found.options["deep_length"] == length
    assert found.options["deep_depth"] == 4
    assert torch.equal(found.state["contexts.defective"], learner["ctx_neg"][0, 0])
    assert torch.equal(found.state["deep.2"], learner["compound_prompts_text.2"])
    assert len(found.unused) == 6


def test_a_checkpoint_without_deep_tokens(tiny: Backbone, tmp_path: Path) -> None:
    learner = {k: v for k, v in random_learner(tiny).items() if not k.startswith("compound_")}
    found = read(tmp_path, learner, tiny)
    assert found.options["deep_depth"] == 1 and set(found.state) == {"contexts.good", "contexts.defective"}


def test_a_checkpoint_in_half_precision_is_read_as_its_own_words(tiny: Backbone, tmp_path: Path) -> None:
    halved = {k: v.half() if v.is_floating_point() else v for k, v in random_learner(tiny).items()}
    assert read(tmp_path, halved, tiny).state["contexts.good"].dtype == torch.float32


FAULTS: dict[str, tuple[State, str]] = {
    "missing": ({"ctx_neg": torch.empty(0)}, r"lacks prompt_learner\.ctx_neg"),
    "width": (
        {"ctx_pos": torch.zeros(1, 1, 12, 96)},
        r"ctx_pos: expected shape \[1, 1, any, 128\], found \[1, 1, 12, 96\]",
    ),
    "tokens": (
        {"ctx_neg": torch.zeros(1, 1, 11, 128)},
        r"ctx_neg: expected shape \[1, 1, 12, 128\], found \[1, 1, 11, 128\]",
    ),
    "deep": (
        {"compound_prompts_text.1": torch.zeros(5, 128)},
        r"compound_prompts_text\.1: expected shape \[4, 128\], found \[5, 128\]",
    ),
    "more": ({"ctx_extra": torch.zeros(1)}, r"holds prompt_learner\.ctx_extra, which the released code"),
    "not finite": (
        {"ctx_pos": torch.full((1, 1, 12, 128), torch.nan)},
        r"ctx_pos: holds values that are not",
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_faults_are_told_in_one_line(fault: str, tiny: Backbone, tmp_path: Path) -> None:
    changes, told = FAULTS[fault]
    learner = random_learner(tiny) | changes
    learner = {key: value for key, value in learner.items() if value.numel()}
    with pytest.raises(FlawlineError, match=told) as caught:
        read(tmp_path, learner, tiny)
    assert "epoch_15.pth" in str(caught.value) and "\n" not in str(caught.value)


def _ids(backbone: Backbone, sentence: str) -> Tensor:
    return backbone.tokenize(["X " * 12 + sentence]).int()[None]


def test_other_words_are_noticed(tiny: Backbone, tmp_path: Path) -> None:
    learner = random_learner(tiny) | {"tokenized_prompts_neg": _ids(tiny, "broken object.")}
    with pytest.raises(
        FlawlineError, match=r"tokenized_prompts_neg: spells other words than 'damaged object\.'"
    ):
        read(tmp_path, learner, tiny)


def test_another_text_tower_of_the_same_width_is_noticed(tiny: Backbone, tmp_path: Path) -> None:
    learner = random_learner(tiny)
    learner["token_suffix_pos"] = learner["token_suffix_pos"].flip(-1)
    with pytest.raises(FlawlineError, match="token_suffix_pos: its words are not those of flawline-tiny"):
        read(tmp_path, learner, tiny)
