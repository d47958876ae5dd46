"""params.yaml is read strictly, and docs/params.md tells every key of it."""

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from flawline.errors import FlawlineError
from flawline.settings import ImagePath, Settings, load_settings, parse_settings


@pytest.fixture
def raw(repository: Path) -> dict[str, Any]:
    """The repository's params.yaml as plain Python."""
    return YAML(typ="safe", pure=True).load(repository / "params.yaml")


def leaves(value: Any, prefix: str = "") -> Iterator[str]:
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from leaves(inner, f"{prefix}{key}.")
    else:
        yield prefix.rstrip(".")


def test_the_repositorys_params_are_valid(repository: Path) -> None:
    settings = load_settings(repository / "params.yaml")
    assert set(settings.tune.methods) <= set(settings.methods)
    assert settings.data.all == sorted({*settings.data.train, *settings.data.test})


def test_every_key_stands_in_the_docs(raw: dict[str, Any], repository: Path) -> None:
    text = (repository / "docs" / "params.md").read_text(encoding="utf-8")
    raw["features"]["paths"] = {"laa": ImagePath().model_dump()}  # all paths have the same keys
    missing = [
        key
        for key in leaves(raw)
        if f"`{key}`" not in text and not key.startswith(("methods.", "ablations."))
    ]
    assert not missing


def test_every_setting_stands_in_the_docs(repository: Path) -> None:
    """Also keys that params.yaml leaves to their default."""
    text = (repository / "docs" / "params.md").read_text(encoding="utf-8")
    for section, field in Settings.model_fields.items():
        for key in getattr(field.annotation, "model_fields", {}):
            assert f"`{section}.{key}`" in text


def test_the_docs_tell_the_defaults(repository: Path) -> None:
    text = (repository / "docs" / "params.md").read_text(encoding="utf-8")
    for section, field in Settings.model_fields.items():
        for key, setting in getattr(field.annotation, "model_fields", {}).items():
            [row] = re.findall(rf"^\| `{section}\.{key}` .*$", text, flags=re.MULTILINE)
            default = row.split("|")[3].strip().strip("`*")
            stated = "required" if setting.is_required() else setting.get_default(call_default_factory=True)
            shown = str(stated).lower() if isinstance(stated, bool) else str(stated)
            assert default == ("null" if stated is None else shown), row


def test_the_docs_name_no_key_that_is_gone(raw: dict[str, Any], repository: Path) -> None:
    text = (repository / "docs" / "params.md").read_text(encoding="utf-8")
    known = set(leaves(raw))
    known |= {
        f"features.paths.{name}.{key}" for name in raw["features"]["paths"] for key in ImagePath.model_fields
    }
    rows = re.findall(r"^\| `([a-z_0-9.]+)`", text, flags=re.MULTILINE)
    assert len(rows) > 40
    for key in rows:
        assert any(leaf == key or leaf.startswith(f"{key}.") for leaf in known), key


def change(path: str, value: Any) -> Callable[[dict[str, Any]], None]:
    def apply(raw: dict[str, Any]) -> None:
        *parents, last = path.split(".")
        for part in parents:
            raw = raw[part]
        raw[last] = value

    return apply


def remove(path: str) -> Callable[[dict[str, Any]], None]:
    def apply(raw: dict[str, Any]) -> None:
        *parents, last = path.split(".")
        for part in parents:
            raw = raw[part]
        del raw[last]

    return apply


@pytest.mark.parametrize(
    ("fault", "named"),
    [
        # wrong type
        (change("tune.seeds", 3), "tune.seeds"),
        (change("tune.seeds", ["0"]), "tune.seeds.0"),
        (change("checks.min_good", "8"), "checks.min_good"),
        (change("checks.min_good", 8.5), "checks.min_good"),
        (change("checks.min_good", True), "checks.min_good"),
        (change("gate.margin", None), "gate.margin"),
        (change("methods.words", 3), "methods.words"),
        (change("data", []), "data"),
        # unknown key
        (change("tune.sedes", [0]), "tune.sedes"),
        (change("tuning", {}), "tuning"),
        (change("features.paths.laa.radios", 1), "features.paths.laa.radios"),
        # missing key
        (remove("gate"), "gate"),
        (remove("backbone.weights"), "backbone.weights"),
        # impossible value
        (change("checks.min_good", 0), "checks.min_good"),
        (change("tune.seeds", []), "tune.seeds"),
        (change("tune.seeds", [-1]), "tune.seeds.0"),
        (change("tune.threshold_quantile", 1.0), "tune.threshold_quantile"),
        (change("synth.area", [0.5, 0.1]), "synth.area"),
        (change("synth.opacity", [0.0, 1.0]), "synth.opacity"),
        (change("synth.noises", {"gaussian": 0}), "synth.noises"),
        (change("synth.noises.gaussian", -1), "synth.noises.gaussian"),
        (change("data.train", ["a", "a"]), "data.train"),
        (change("data.train", ["../elsewhere"]), "data.train.0"),
        (change("features.dtype", "int8"), "features.dtype"),
        (change("features.paths.laa.attention", "plain"), "features.paths.laa"),
        (change("gate.better_in", "pixel_ap"), "gate.better_in"),
        (change("gate.metrics", ["pixel_auroc"]), "gate.better_in"),
        # unknown method
        (change("tune.methods", ["words", "humanfree"]), "humanfree"),
        # ablations
        (change("tune.methods", ["words", "human_free@no_mpts"]), "tune.methods.1"),
        (change("ablations.humanfree", {}), "humanfree"),
        (change("ablations.human_free.default", {"part": "a", "why": "b", "change": {"c": 1}}), "default"),
        (change("ablations.human_free.No-MPTS", {"part": "a", "why": "b", "change": {"c": 1}}), "No-MPTS"),
        (change("ablations.human_free.no_mpts.change", {}), "no_mpts.change"),
        (change("ablations.human_free.no_mpts.change", {"gate.margin": 0.1}), "gate.margin"),
        (change("ablations.human_free.no_mpts.changes", {}), "no_mpts.changes"),
        (remove("ablations.human_free.no_mpts.why"), "no_mpts.why"),
    ],
)
def test_a_fault_ends_with_one_line_that_names_the_key(
    raw: dict[str, Any], fault: Callable[[dict[str, Any]], None], named: str
) -> None:
    fault(raw)
    with pytest.raises(FlawlineError) as caught:
        parse_settings(raw, "params.yaml")
    message = str(caught.value)
    assert message.startswith("params.yaml: ")
    assert named in message
    assert "\n" not in message
    assert caught.value.remedy


def test_several_faults_are_told_together(raw: dict[str, Any]) -> None:
    for key in ("checks.min_good", "checks.min_side", "tune.seeds", "evaluate.bins", "gate.margin"):
        change(key, "x")(raw)
    with pytest.raises(FlawlineError, match=r"checks\.min_good.*checks\.min_side.*and 2 more"):
        parse_settings(raw)


def test_an_int_may_stand_for_a_float(raw: dict[str, Any]) -> None:
    change("evaluate.pro_limit", 1)(raw)
    assert parse_settings(raw).evaluate.pro_limit == 1.0


def test_an_empty_file_names_the_file() -> None:
    with pytest.raises(FlawlineError, match=r"params\.yaml: \(whole file\)"):
        parse_settings(None)


@pytest.mark.parametrize("text", ["data: [", "data:\n\t- x", "a: 1\na: 2"])
def test_broken_yaml_names_the_file(tmp_path: Path, text: str) -> None:
    path = tmp_path / "params.yaml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(FlawlineError) as caught:
        load_settings(path)
    assert str(path) in str(caught.value)
    assert "not valid YAML" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_bytes_that_are_no_text_name_the_file(tmp_path: Path) -> None:
    path = tmp_path / "params.yaml"
    path.write_bytes(b"data: \xff\xfe\x00")
    with pytest.raises(FlawlineError) as caught:
        load_settings(path)
    assert str(path) in str(caught.value)


def test_a_missing_file_names_the_file(tmp_path: Path) -> None:
    with pytest.raises(FlawlineError, match=r"params\.yaml is missing"):
        load_settings(tmp_path / "params.yaml")
