"""The same prompt set gives the same scores from pictures and from cached features."""

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from flawline.clip import image_path
from flawline.clip.backbone import Backbone, load_backbone
from flawline.clip.image_path import resolve_paths
from flawline.detector import Detector, type_name
from flawline.errors import FlawlineError
from flawline.evaluate.scoring import FeatureScorer, score_features
from flawline.features.store import FeatureSet
from flawline.files import write_parquet
from flawline.prompts import method_class, method_options
from flawline.prompts.shared.prompt_set import save_prompt_set
from flawline.render.samples import SETS, draw_flawed, draw_good
from flawline.serve.tiles import Tiling
from flawline.settings import Settings, load_settings, parse_settings
from flawline.stages import features as features_stage
from flawline.workspace import Cell, Workspace


@pytest.fixture(scope="module")
def pictures() -> list[Image.Image]:
    looks = SETS["boards"]
    drawn = [draw_good(looks["pcb"], 1).picture, draw_flawed(looks["coated_panel"], "rust", 2)[0]]
    drawn += [draw_good(looks["ceramic_tile"], 3).picture]
    return [Image.fromarray((picture.clip(0, 1) * 255).astype("uint8")) for picture in drawn]


@pytest.fixture
def settings(workspace: Workspace) -> Settings:
    raw = load_settings(workspace.params).model_dump()
    raw["backbone"] = {"name": "flawline-tiny", "weights": "none", "image_size": 64, "seed": 1}
    raw["features"]["dtype"] = "float32"
    return parse_settings(raw)


@pytest.fixture
def prompts(workspace: Workspace, settings: Settings):
    """A saved, untrained human_free prompt set; its folder."""
    backbone: Backbone = load_backbone(settings.backbone, workspace.root)
    options = method_options("human_free", settings.methods["human_free"])
    method = method_class("human_free")(backbone, options, 0)
    folder = workspace.prompts(Cell("human_free", "castings", 0))
    card = {
        "method": "human_free", "backbone": backbone.card(), "options": options.model_dump(), "seed": 0,
        "image_paths": {"main": resolve_paths(backbone, settings.features.paths)[options.image_path].model_dump()},
        "threshold": {"value": 0.5, "quantile": 0.95, "from": "good training images"},
    }  # fmt: skip
    save_prompt_set(folder, method, card)
    return folder


def _cache(workspace: Workspace, settings: Settings, pictures: list[Image.Image]):
    rows = []
    for k, picture in enumerate(pictures):
        path = workspace.data / "boards" / "pcb" / "test" / "good" / f"{k}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        picture.save(path)
        rows.append({
            "dataset": "boards", "category": "pcb", "split": "test", "defect": "good", "label": 0,
            "image": path.relative_to(workspace.data).as_posix(), "mask": None, "width": 192, "height": 192,
            "sha256": f"{k:064d}", "problem": None,
        })  # fmt: skip
    write_parquet(workspace.manifest, pd.DataFrame(rows))
    features_stage.run(workspace, settings, "test", "boards")
    return workspace.features("test", "boards")


def test_pictures_and_cached_features_score_alike(workspace, settings, prompts, pictures) -> None:
    folder = _cache(workspace, settings, pictures)
    scored = score_features(workspace, settings, prompts, folder)
    scores, maps = scored.image, scored.maps
    assert scored.types is None  # human_free knows no types
    results = Detector.open(prompts, workspace.root).score(pictures)
    assert scores == pytest.approx([r.score for r in results], abs=1e-4)
    for one, result in zip(maps, results, strict=True):
        assert abs(one - result.map).max() < 1e-4
    assert len(FeatureSet.open(folder)) == len(pictures)


def test_features_are_scored_by_row_in_any_order(workspace, settings, prompts, pictures) -> None:
    folder = _cache(workspace, settings, pictures)
    whole = score_features(workspace, settings, prompts, folder)
    score = FeatureScorer(workspace, settings, prompts, folder)
    assert (score.images, score.side) == (3, 64) and 1 <= score.batch <= 64
    some = score(np.asarray([2, 0]))
    assert some.image == pytest.approx(whole.image[[2, 0]], abs=1e-5)
    assert some.maps == pytest.approx(whole.maps[[2, 0]], abs=1e-5)
    raw = settings.model_dump()
    raw["evaluate"]["map_size"] = 32
    small = FeatureScorer(workspace, parse_settings(raw), prompts, folder)
    assert small(np.asarray([1])).maps.shape == (1, 32, 32)


def test_result_says_what_the_threshold_says(workspace, prompts, pictures) -> None:
    detector = Detector.open(prompts, workspace.root)
    scores = [r.score for r in detector.score(pictures)]
    detector.threshold = sorted(scores)[1]
    for result in detector.score(pictures):
        assert result.is_anomalous == (result.score > detector.threshold)
        assert result.defect == ("anomaly" if result.is_anomalous else "good")
        assert result.map.shape == (64, 64) and 0 <= result.map.min() <= result.map.max() <= 1


def test_modes_and_sizes_of_pictures_do_not_matter(workspace, prompts, pictures) -> None:
    detector = Detector.open(prompts, workspace.root)
    grey = pictures[0].convert("L")
    first, second = detector.score([grey, grey.convert("RGB")])
    assert first.score == pytest.approx(second.score, abs=1e-6)
    assert len(detector.score([pictures[0].resize((301, 77))])) == 1


def test_image_path_that_was_not_extracted_is_named(workspace, settings, prompts, pictures) -> None:
    raw = settings.model_dump()
    raw["features"]["paths"]["laa"]["radius"] = 5
    folder = _cache(workspace, parse_settings(raw), pictures)
    with pytest.raises(FlawlineError, match=r"holds no patch features.*features\.paths"):
        score_features(workspace, settings, prompts, folder)


def test_folded_text_equals_fresh_text(workspace, prompts) -> None:
    method = Detector.open(prompts, workspace.root).method
    assert torch.equal(method.folded("object"), method.text_features("object").detach())


@pytest.fixture
def typed(workspace: Workspace, settings: Settings):
    """A saved, untrained dapo prompt set; its folder."""
    backbone: Backbone = load_backbone(settings.backbone, workspace.root)
    options = method_options("dapo", {"image_path": "laa", "defects": {"line": "scratch", "stain": "stain"}})
    method = method_class("dapo")(backbone, options, 0)
    folder = workspace.prompts(Cell("dapo", "castings", 0))
    card = {
        "method": "dapo", "backbone": backbone.card(), "options": options.model_dump(), "seed": 0,
        "image_paths": {"main": resolve_paths(backbone, settings.features.paths)["laa"].model_dump()},
        "threshold": {"value": 0.0, "quantile": 0.95, "from": "good training images"},
    }  # fmt: skip
    save_prompt_set(folder, method, card)
    return folder


def test_types_are_told_from_pictures_and_features_alike_also_new_ones(
    workspace, settings, typed, pictures
) -> None:
    detector = Detector.open(typed, workspace.root)
    assert detector.known_types == ["scratch", "stain"]
    for words in (None, ["dent", "bubble", "scratch"]):
        results = detector.score(pictures, defects=words)
        names = ["good", *(words or detector.known_types)]
        for result in results:
            assert list(result.types) == names and sum(result.types.values()) == pytest.approx(1, abs=1e-4)
            assert result.type_map is not None and result.type_map.shape == (64, 64)
            assert 0 <= result.type_map.min() <= result.type_map.max() < len(names)
            assert result.defect in {*names, "unknown"} - {"good"}  # the threshold is 0: all are anomalous
    scored = score_features(workspace, settings, typed, _cache(workspace, settings, pictures), words)
    want = [list(result.types.values()) for result in results]
    assert scored.types == pytest.approx(np.asarray(want), abs=1e-4)


def test_more_types_are_asked_beside_the_known_ones_and_told_apart_from_them(
    workspace, typed, pictures
) -> None:
    """Between a new type and the end of its retraining the champion names it by its words."""
    detector = Detector.open(typed, workspace.root)
    [plain, *_] = detector.score(pictures)
    assert plain.named_by == {"scratch": "trained", "stain": "trained"}
    [result, *_] = detector.score(pictures, more=["burn mark", "scratch"])
    assert list(result.types) == ["good", "scratch", "stain", "burn mark"]
    assert result.named_by == {"scratch": "trained", "stain": "trained", "burn mark": "words only"}
    assert result.types["burn mark"] > 0 and result.score == plain.score
    assert result.map == pytest.approx(plain.map), "words that are asked for change no score"
    [alone, *_] = detector.score(pictures, defects=["dent"], more=["rust"])
    assert alone.named_by == {"dent": "words only", "rust": "words only"}


@pytest.mark.parametrize(
    ("types", "named"),
    [
        ({"good": 0.9, "dent": 0.08, "rust": 0.02}, "dent"),
        ({"good": 0.1, "dent": 0.46, "rust": 0.44}, "unknown"),
        ({"good": 0.1, "dent": 0.3, "rust": 0.3, "hole": 0.3}, "unknown"),
        ({"good": 0.4, "dent": 0.6}, "dent"),
    ],
)
def test_a_type_that_does_not_stand_out_is_unknown(types: dict[str, float], named: str) -> None:
    assert type_name(types) == named


def test_methods_without_types_say_so(workspace, prompts, pictures) -> None:
    detector = Detector.open(prompts, workspace.root)
    assert detector.known_types == []
    found = detector.score(pictures, defects=["dent"], more=["rust"])
    assert all(r.types == {} and r.type_map is None and r.named_by == {} for r in found)


def test_a_method_that_runs_the_tower_has_nothing_encoded_for_it(
    workspace, typed, pictures, monkeypatch
) -> None:
    """Once the method declares that it reads no features, the tower runs as often as the method runs it."""
    detector = Detector.open(typed, workspace.root)
    assert detector.method.reads_pixels
    kind, blocks = type(detector.method), []
    detector.method.backbone.visual.transformer.resblocks[0].register_forward_hook(
        lambda *_: blocks.append("method")
    )
    attend = image_path._attend

    def attend_and_tell(*given: torch.Tensor) -> torch.Tensor:
        blocks.append("path")
        return attend(*given)

    monkeypatch.setattr(image_path, "_attend", attend_and_tell)
    found = {}
    for declared in (True, False):
        monkeypatch.setattr(kind, "reads_cls", declared, raising=False)
        monkeypatch.setattr(kind, "reads_patches", declared, raising=False)
        blocks.clear()
        found[declared] = Detector.open(typed, workspace.root)
        found[declared].method = detector.method
        found[declared] = found[declared].score(pictures), list(blocks)
    assert "path" in found[True][1] and found[False][1] == ["method"]
    for one, other in zip(found[True][0], found[False][0], strict=True):
        assert one.score == other.score and one.types == other.types and np.array_equal(one.map, other.map)


def test_an_iterator_is_read_a_batch_ahead_and_no_further(workspace, prompts, pictures) -> None:
    detector = Detector.open(prompts, workspace.root)
    detector.batch = 2
    wanted = [result.score for result in detector.score(pictures * 3)]
    read: list[int] = []

    def come():
        for number, picture in enumerate(pictures * 3):
            read.append(number)
            yield picture

    results = detector.stream(come())
    for number, result in enumerate(results):
        assert len(read) <= 2 * (number // 2 + 2)
        assert result.score == wanted[number]
    assert len(read) == 9


def test_tiles_tell_the_largest_of_their_scores_and_a_finer_map(workspace, prompts, typed, pictures) -> None:
    detector = Detector.open(prompts, workspace.root)
    picture = pictures[1].resize((300, 200))
    tiling = Tiling(2, 64)
    views = detector.score(tiling.split(picture))
    [result] = detector.score([picture], tiles=2)
    assert result.score == pytest.approx(max(view.score for view in views), abs=1e-6)
    maps = torch.from_numpy(np.stack([view.map for view in views]))
    assert result.map.shape == (112, 112) and np.allclose(result.map, tiling.blend(maps).numpy(), atol=1e-5)
    plain = detector.score([picture, pictures[0]])
    for one, other in zip(plain, detector.score([picture, pictures[0]], tiles=1), strict=True):
        assert one.score == other.score and np.array_equal(one.map, other.map)
    both = detector.score([pictures[0], picture], tiles=2)
    assert both[1].score == pytest.approx(result.score, abs=1e-6)
    [told] = Detector.open(typed, workspace.root).score([picture], tiles=2)
    assert told.type_map is not None and told.type_map.shape == (112, 112)
    assert list(told.types) == ["good", "scratch", "stain"]
