"""DAPO's released layout → a prompt set with the golden outputs; and what is no such checkpoint."""

from pathlib import Path

import pytest
import torch

from flawline.clip.backbone import Backbone
from flawline.detector import Detector
from flawline.errors import FlawlineError
from flawline.importers import dapo, run
from flawline.importers.checkpoint import Checkpoint
from flawline.prompts.dapo import Dapo
from flawline.prompts.shared.batches import Inputs
from golden import make_weights
from golden.prompt_case import relative

from .conftest import settings_of
from .released import State, case, golden_dapo, save_dapo

NAME = "dapo_released"


@pytest.fixture
def inputs() -> Inputs:
    """The golden images; DAPO runs the image tower itself."""
    pixels = torch.from_numpy(make_weights.images("images", 4, 70, 31))
    return Inputs(torch.zeros(4, 1), torch.zeros(4, 1, 1, 1), pixels=pixels)


def test_the_imported_prompt_set_gives_the_released_outputs(
    home: Path, l14: Backbone, inputs: Inputs, tmp_path: Path
) -> None:
    file = save_dapo(tmp_path / "epoch_1.pth", golden_dapo(l14, NAME))
    gold, card = case(NAME)
    unseen = {"test_words": card["test_words_unseen"]}
    for prefix, words in (("test", None), ("test_unseen", unseen)):
        folder = run.run("dapo", [file], tmp_path / prefix, home, settings_of("l14"), words)
        detector = Detector.open(folder, home)
        scores, maps = detector.method.score(inputs, 70)
        assert relative(scores, gold[f"{prefix}.score"]) < 1e-4
        assert relative(maps * 4, gold[f"{prefix}.map"]) < 1e-4  # released maps are sums over four levels
        assert isinstance(detector.method, Dapo) and detector.method.train_words == card["train_words"]
        assert detector.card["imported"]["epoch"] == 1
        assert [key for key in detector.card["imported"]["unused"] if "meta_net.0" in key] == [
            "prompt_learner.meta_net.0.bias", "prompt_learner.meta_net.0.weight",
        ]  # fmt: skip


def test_the_clean_text_mode_is_a_switch(home: Path, l14: Backbone, inputs: Inputs, tmp_path: Path) -> None:
    file = save_dapo(tmp_path / "x.pth", golden_dapo(l14, NAME))
    clean = {"text_mode": "clean"}
    folder = run.run("dapo", [file], tmp_path / "set", home, settings_of("l14"), clean)
    scores, _ = Detector.open(folder, home).method.score(inputs, 70)
    assert relative(scores, case("dapo_clean")[0]["test.score"]) < 1e-4


def test_the_names_of_the_test_script_are_known_too(l14: Backbone, tmp_path: Path) -> None:
    parts = golden_dapo(l14, NAME)
    renamed = {
        "prompt_learner_state_dict": parts["prompt_learner"],
        "visual_prompt_state_dict": parts["visual_prompt"],
        "trainable_adapter_state_dict": parts["linear_adapter"],
    }
    one, other = (
        dapo.read([Checkpoint.open(save_dapo(tmp_path / name, given))], l14)
        for name, given in (("one.pth", parts), ("other.pth", renamed))
    )
    assert one.options == other.options and one.state.keys() == other.state.keys()
    assert all(torch.equal(one.state[key], other.state[key]) for key in one.state)


FAULTS: dict[str, tuple[str, State, str]] = {
    "missing": (
        "visual_prompt",
        {"learnable_visual_tokens": torch.empty(0)},
        r"lacks visual_prompt\.learnable",
    ),
    "image tower": (
        "visual_prompt",
        {"learnable_visual_tokens": torch.zeros(24, 4, 96)},
        r"learnable_visual_tokens: expected shape \[any, 4, 128\], found \[24, 4, 96\]",
    ),
    "contexts": (
        "prompt_learner",
        {"learnable_abnormal_tokens": torch.zeros(10, 4, 128)},
        r"learnable_abnormal_tokens: expected shape \[10, 5, 128\], found \[10, 4, 128\]",
    ),
    "joint": (
        "linear_adapter",
        {"fc.2.weight": torch.zeros(64, 128)},
        r"linear_adapter\.fc\.2\.weight: expected shape \[128, 128\], found \[64, 128\]",
    ),
    "more": ("linear_adapter", {"fc.9.bias": torch.zeros(128)}, r"holds linear_adapter\.fc\.9\.bias"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_faults_are_told_in_one_line(fault: str, l14: Backbone, tmp_path: Path) -> None:
    part, changes, told = FAULTS[fault]
    parts = golden_dapo(l14, NAME)
    parts[part] = {key: value for key, value in (parts[part] | changes).items() if value.numel()}
    with pytest.raises(FlawlineError, match=told) as caught:
        dapo.read([Checkpoint.open(save_dapo(tmp_path / "x.pth", parts))], l14)
    assert "x.pth" in str(caught.value) and "\n" not in str(caught.value)


def test_parts_that_are_missing_or_unknown(l14: Backbone, tmp_path: Path) -> None:
    parts = golden_dapo(l14, NAME)
    adapters = parts.pop("linear_adapter")
    for given, told in (
        (parts, "lacks linear_adapter"),
        (parts | {"linear_adapter": adapters, "ema": adapters}, "holds 'ema', which the released code"),
    ):
        with pytest.raises(FlawlineError, match=told):
            dapo.read([Checkpoint.open(save_dapo(tmp_path / "x.pth", given))], l14)


def test_another_number_of_adapters_needs_levels(home: Path, l14: Backbone, tmp_path: Path) -> None:
    parts = golden_dapo(l14, NAME)
    parts["linear_adapter"] = {k: v for k, v in parts["linear_adapter"].items() if not k.startswith("fc.3")}
    file = save_dapo(tmp_path / "x.pth", parts)
    with pytest.raises(FlawlineError, match=r"learns adapters\.3\.bias, which the checkpoint lacks"):
        run.run("dapo", [file], tmp_path / "set", home, settings_of("l14"))
    run.run("dapo", [file], tmp_path / "set", home, settings_of("l14"), {"levels": [6, 12, 24]})
