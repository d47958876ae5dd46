"""A variant is the ordinary settings with its changes, and the ordinary workspace with what is its own elsewhere."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from flawline.errors import FlawlineError
from flawline.files import read_json, sha256_file, sha256_folder, write_parquet
from flawline.prompts import method_options, validate_methods
from flawline.settings import Settings, load_settings, parse_settings
from flawline.variants import VariantId, changed, entered, of, own_parts, variants_of
from flawline.workspace import Cell, VariantWorkspace, Workspace

ABLATIONS = {
    "human_free": {
        "no_mpts": {"part": "MPTS", "why": "no guide", "change": {"guidance": "none"}},
        "whole": {
            "part": "OAGM mask",
            "why": "beside it",
            "change": {"synth.object_mask": "whole", "epochs": 2},
        },
        "no_laa": {"part": "LAA", "why": "all patches", "change": {"features.paths.laa.radius": None}},
        "plain": {"part": "LAA", "why": "tower", "change": {"features.paths.laa": {"attention": "plain"}}},
        "one_noise": {"part": "noises", "why": "one", "change": {"synth.noises": {"gaussian": 1}}},
    }
}
CELL = Cell("human_free", "castings", 1)


@pytest.fixture
def raw(repository: Path) -> dict[str, Any]:
    return load_settings(repository / "params.yaml").model_dump() | {"ablations": ABLATIONS}


@pytest.fixture
def settings(raw: dict[str, Any]) -> Settings:
    return parse_settings(raw)


def which(name: str, method: str = "human_free") -> VariantId:
    return VariantId(method, name)


def differences(one: Any, other: Any, key: str = "") -> set[str]:
    """Dotted keys in which two nested mappings differ."""
    if isinstance(one, dict) and isinstance(other, dict):
        inner = [differences(one.get(k), other.get(k), f"{key}.{k}".lstrip(".")) for k in {*one, *other}]
        return set().union(*inner)
    return set() if one == other else {key}


def test_a_name_is_written_and_read() -> None:
    assert VariantId.parse("human_free@no_mpts") == which("no_mpts")
    assert str(which("no_mpts")) == "human_free@no_mpts"
    for wrong in ("human_free", "@no_mpts", "human_free@"):
        with pytest.raises(FlawlineError, match="names no variant"):
            VariantId.parse(wrong)


@pytest.mark.parametrize(
    ("name", "keys"),
    [
        ("default", set()),
        ("no_mpts", {"methods.human_free.guidance"}),
        ("whole", {"synth.object_mask", "methods.human_free.epochs"}),
        ("one_noise", {f"synth.noises.{n}" for n in ("stain", "line", "dropout", "paste", "shuffle")}),
    ],
)
def test_only_what_a_variant_names_changes_and_no_pictures_are_drawn(
    settings: Settings, name: str, keys: set[str]
) -> None:
    after = changed(settings, which(name))
    assert differences(settings.model_dump(), after.model_dump()) == {"evaluate.overlays", *keys}
    assert after.evaluate.overlays == 0


def test_other_image_paths_are_read_alone(settings: Settings) -> None:
    """Features for one method need not hold what other methods read."""
    without, plain = changed(settings, which("no_laa")), changed(settings, which("plain"))
    assert set(without.features.paths) == set(plain.features.paths) == {"laa"}
    assert without.features.paths["laa"] == settings.features.paths["laa"].model_copy(update={"radius": None})
    assert plain.features.paths["laa"].attention == "plain" and plain.features.paths["laa"].levels == [1.0]


def test_all_paths_of_a_method_are_kept(raw: dict[str, Any]) -> None:
    change = {"features.paths.taps.levels": [0.5]}
    raw["ablations"] = {"promptad": {"one_tap": {"part": "memory", "why": "one", "change": change}}}
    found = changed(parse_settings(raw), which("one_tap", "promptad")).features.paths
    assert set(found) == {"laa", "taps"} and found["taps"].levels == [0.5]


def test_what_a_variant_makes_itself_lies_apart(settings: Settings, tmp_path: Path) -> None:
    main = Workspace(tmp_path)

    def places(workspace: Workspace) -> dict[str, Path]:
        return {
            "synth": workspace.synth("castings"),
            "train": workspace.features("train", "castings"),
            "test": workspace.features("test", "boards"),
            "support": workspace.features("support", "boards"),
            "prompts": workspace.prompts(CELL),
            "tuning": workspace.tuning(CELL),
            "evaluation": workspace.evaluation(CELL, "boards"),
        }

    own = {
        "default": set(),
        "no_mpts": set(),
        "whole": {"synth", "train"},
        "no_laa": {"train", "test", "support"},
    }
    seen: set[Path] = set(places(main).values())
    for name, more in own.items():
        there, _ = entered(main, settings, which(name))
        before, after = places(main), places(there)
        moved = {part for part in before if before[part] != after[part]}
        assert moved == {"prompts", "tuning", "evaluation"} | more
        for part in moved:
            assert after[part].is_relative_to(main.ablation("human_free") / name)
            assert after[part] not in seen
            seen.add(after[part])
        assert (there.manifest, there.metrics, there.data, there.lock) == (
            main.manifest, main.metrics, main.data, main.lock,
        )  # fmt: skip


def test_an_unknown_variant_is_refused_and_the_known_are_named(settings: Settings) -> None:
    with pytest.raises(FlawlineError, match=r"ablations\.human_free has no 'mpts' — it has default, no_mpts"):
        of(settings, which("mpts"))
    with pytest.raises(FlawlineError, match="no variants of 'words' — there are some of human_free"):
        variants_of(settings, "words")
    assert of(settings, which("default", "words")) is None and own_parts(None) == own_parts(
        of(settings, which("no_mpts"))
    )


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"guidanse": "none"}, "ablations.human_free.x: methods.human_free.guidanse"),
        ({"guidance": "sometimes"}, "ablations.human_free.x: methods.human_free.guidance"),
        ({"image_path": "elsewhere"}, "no 'elsewhere' in features.paths"),
        ({"synth.object_mask": "none"}, "ablations.human_free.x: synth.object_mask"),
        ({"synth.mask.from": "clip"}, "names 'synth.mask.from', which is not there"),
        ({"features.paths.lla.radius": 2}, "names 'features.paths.lla.radius', which is not there"),
    ],
)
def test_a_wrong_change_is_found_before_anything_runs(
    raw: dict[str, Any], change: dict[str, Any], told: str
) -> None:
    raw["ablations"] = {"human_free": {"x": {"part": "p", "why": "w", "change": change}}}
    with pytest.raises(FlawlineError) as caught:
        validate_methods(parse_settings(raw))
    message = str(caught.value)
    assert told in message and "ablations.human_free.x" in message and "\n" not in message


def test_the_repositorys_variants_are_valid_and_differ(repository: Path) -> None:
    settings = load_settings(repository / "params.yaml")
    validate_methods(settings)
    for method, variants in settings.ablations.items():
        default = changed(settings, which("default", method))
        made = [default.model_dump(exclude={"ablations"})]
        for name in variants:
            after = changed(settings, which(name, method))
            options = method_options(method, after.methods[method]).model_dump()
            same = options == method_options(method, settings.methods[method]).model_dump()
            if same:  # then it must differ in what it reads
                keep = after.features.paths.keys()
                read = {key: settings.features.paths[key] for key in keep}
                assert after.synth != settings.synth or after.features.paths != read, f"{method}@{name}"
            made.append(after.model_dump(exclude={"ablations"}))
            assert made.count(made[-1]) == 1, f"{method}@{name} is another one once more"


def test_the_repositorys_variants_can_be_made(repository: Path) -> None:
    """What options alone do not tell, their method does when it is built: depths, levels, noises."""
    from flawline.clip.backbone import load_backbone
    from flawline.prompts import method_class
    from flawline.settings import BackboneSettings

    settings = load_settings(repository / "params.yaml")
    backbone = load_backbone(BackboneSettings(name="flawline-tiny", weights="none", image_size=64), Path())
    for method, variants in settings.ablations.items():
        for name in ("default", *variants):
            raw = changed(settings, which(name, method)).methods[method]
            assert method_class(method)(backbone, method_options(method, raw), 0).name == method


def test_variants_of_rounds_take_as_many_steps_as_the_default(repository: Path) -> None:
    settings = load_settings(repository / "params.yaml")
    default = method_options("apt", settings.methods["apt"])
    for name, one in settings.ablations["apt"].items():
        if one.part == "SMGS rounds":
            options = method_options("apt", changed(settings, which(name, "apt")).methods["apt"])
            assert options.rounds * options.steps == default.rounds * default.steps, name  # type: ignore[attr-defined]


# --- through the real stages ----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def line(tmp_path_factory: pytest.TempPathFactory) -> tuple[Workspace, Settings]:
    """Pictures of two data sets, a random CLIP, and the main line as far as the prompt set of one cell."""
    from flawline.stages import features, synthesize, tune

    repository = Path(__file__).resolve().parent.parent
    workspace = Workspace(tmp_path_factory.mktemp("wörk space"))
    (workspace.root / "vocabulary.yaml").write_bytes((repository / "vocabulary.yaml").read_bytes())
    raw = load_settings(repository / "params.yaml").model_dump() | {"ablations": ABLATIONS}
    raw["data"] |= {"train": ["castings"], "test": ["boards"]}
    raw["backbone"] = {"name": "flawline-tiny", "weights": "none", "image_size": 64, "seed": 0}
    raw["synth"] |= {"variants": 1, "object_mask": "otsu"}
    raw["evaluate"] |= {"bootstrap": 100, "bins": 64}
    raw["methods"]["human_free"] |= {"epochs": 1, "batch": 4, "learning_rate": 0.5}
    settings = parse_settings(raw)
    picture_all(workspace)
    synthesize.run(workspace, settings, "castings")
    features.run(workspace, settings, "train", "castings")
    features.run(workspace, settings, "test", "boards")
    tune.run(workspace, settings, CELL)
    return workspace, settings


def picture_all(workspace: Workspace) -> None:
    """A bright disc on a dark ground; in flawed pictures with a stroke across."""
    rows = []
    parts = [("castings", "train", "good", 4), ("boards", "train", "good", 2), ("boards", "test", "good", 4)]
    for dataset, split, defect, count in [*parts, ("boards", "test", "scratch", 4)]:
        for number in range(count):
            rng = np.random.default_rng([len(rows), number])
            y, x = np.mgrid[:48, :64]
            values = np.where((y - 24) ** 2 + (x - 32) ** 2 < 256, 200, 30)[..., None]
            values = np.clip(values + rng.normal(0, 5, (48, 64, 3)), 0, 255).astype(np.uint8)
            mask = np.zeros((48, 64), np.uint8)
            mask[22:26, 20:44] = 255
            image = f"{dataset}/disc/{split}/{defect}/{number:03d}.png"
            outline = f"{dataset}/disc/ground_truth/{defect}/{number:03d}_mask.png"
            if defect != "good":
                values[mask > 0] = 0
                save(workspace.data / outline, mask)
            save(workspace.data / image, values)
            rows.append({
                "dataset": dataset, "category": "disc", "split": split, "defect": defect,
                "label": int(defect != "good"), "image": image, "mask": outline if defect != "good" else None,
                "width": 64, "height": 48, "sha256": sha256_file(workspace.data / image), "problem": None,
            })  # fmt: skip
    table = pd.DataFrame(rows).sort_values(["dataset", "category", "split", "defect", "image"])
    write_parquet(workspace.manifest, table.astype({"label": "int8", "width": "int32", "height": "int32"}))


def save(path: Path, values: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(values).save(path)


def made(workspace: Workspace, settings: Settings, name: str) -> VariantWorkspace:
    """A variant through every stage that it has of its own."""
    from flawline.stages import evaluate, features, synthesize, tune

    place, its = entered(workspace, settings, which(name))
    if "synth" in place.own:
        synthesize.run(place, its, "castings")
    if "features/train" in place.own or "features" in place.own:
        features.run(place, its, "train", "castings")
    if "features" in place.own:
        features.run(place, its, "test", "boards")
    tune.run(place, its, CELL)
    evaluate.run(place, its, CELL, "boards")
    return place


def test_the_default_is_the_main_lines_prompt_set(line: tuple[Workspace, Settings]) -> None:
    workspace, settings = line
    place = made(workspace, settings, "default")
    assert sha256_folder(place.prompts(CELL)) == sha256_folder(workspace.prompts(CELL))
    assert place.prompts(CELL) != workspace.prompts(CELL)
    assert not workspace.evaluation(CELL, "boards").exists(), "nothing is written where the main line writes"


@pytest.mark.parametrize("name", ["no_mpts", "whole", "no_laa"])
def test_a_variant_runs_through_the_ordinary_stages(line: tuple[Workspace, Settings], name: str) -> None:
    workspace, settings = line
    parts = [workspace.synth("castings"), *(workspace.out / "features" / p for p in ("train", "test"))]
    before = [sha256_folder(folder) for folder in parts]
    place = made(workspace, settings, name)
    card, main = (read_json(w.prompts(CELL) / "card.json") for w in (place, workspace))
    assert card["train_sha256"] == main["train_sha256"] and card["seed"] == main["seed"]
    if name == "no_mpts":
        assert differences(main["options"], card["options"]) == {"guidance"}
    if name == "whole":
        assert sha256_folder(place.synth("castings")) != before[0] and card["options"]["epochs"] == 2
    if name == "no_laa":
        assert card["image_paths"]["main"] == main["image_paths"]["main"] | {"radius": None}
    assert (place.evaluation(CELL, "boards") / "metrics.csv").is_file()
    assert not list((place.evaluation(CELL, "boards") / "overlays").glob("*.png"))
    assert [sha256_folder(folder) for folder in parts] == before
