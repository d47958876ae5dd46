"""A decision is taken again from its files, and every change of a file is noticed."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from flawline.errors import FlawlineError
from flawline.files import write_json, write_parquet
from flawline.gate.candidate import threshold_of
from flawline.gate.check import again, differences, inputs
from flawline.gate.decide import decide, undecided
from gate.made import SETTINGS, Images, candidate

KNOWN = {"boards": ["crack"]}


@pytest.fixture
def record(tmp_path: Path) -> dict[str, Any]:
    """A decision as it is read back from its file, and its files below tmp_path."""
    images = Images(good=30, types={"crack": 30, "hole": 12})
    new, old = (
        candidate(tmp_path / "out", n, {"boards": g}, images) for n, g in (("new", 2.4), ("old", 1.0))
    )
    manifest = tmp_path / "out" / "manifest.parquet"
    write_parquet(manifest, images.table.assign(dataset="boards", group=None))
    decision = decide(new, old, SETTINGS, "r", None, pd.read_parquet(manifest), KNOWN)
    read = inputs(new, old, None, SETTINGS, manifest, KNOWN, tmp_path)
    return json.loads(json.dumps(replace(decision, inputs=read).record(), allow_nan=False))


def test_the_same_files_give_the_same_decision(record: dict[str, Any], tmp_path: Path) -> None:
    assert record["verdict"] == "promote" and record["new_types"] == [["boards", "hole"]]
    assert differences(record, again(record, tmp_path)) == []
    assert str(tmp_path) not in json.dumps(record), "paths of one machine are not shared"


def test_it_holds_where_the_workspace_has_moved(record: dict[str, Any], tmp_path: Path) -> None:
    moved = tmp_path / "elsewhere"
    moved.mkdir()
    (tmp_path / "out").rename(moved / "out")
    assert differences(record, again(record, moved)) == []


def test_a_first_decision_is_taken_against_the_baseline_again(tmp_path: Path) -> None:
    new, words = (candidate(tmp_path, n, {"boards": g}) for n, g in (("new", 2.0), ("words", 1.0)))
    write_parquet(tmp_path / "manifest.parquet", Images().table)
    decision = decide(new, None, SETTINGS, "r", words)
    read = inputs(new, None, words, SETTINGS, tmp_path / "manifest.parquet", None, tmp_path)
    record = json.loads(json.dumps(replace(decision, inputs=read).record()))
    assert record["against"] == "baseline words" and differences(record, again(record, tmp_path)) == []


@pytest.mark.parametrize("name", ["new/0/boards/scores.parquet", "new/2/boards/histograms.safetensors",
                                  "old/0/boards/scores.parquet", "manifest.parquet"])  # fmt: skip
@pytest.mark.parametrize("how", ["changed", "gone"])
def test_another_file_is_named(record: dict[str, Any], tmp_path: Path, name: str, how: str) -> None:
    path = tmp_path / "out" / name
    path.write_bytes(path.read_bytes() + b" ") if how == "changed" else path.unlink()
    with pytest.raises(FlawlineError, match=rf"out/{name}.* (gone|no longer)"):
        again(record, tmp_path)


def test_a_forged_number_is_found(record: dict[str, Any], tmp_path: Path) -> None:
    record["tests"][1]["ci_low"] += 0.001
    [told] = differences(record, again(record, tmp_path))
    assert "ci_low" in told and "boards" in told
    record["verdict"] = "stay"
    assert len(differences(record, again(record, tmp_path))) == 2
    assert "tests were made" in differences({**record, "tests": []}, again(record, tmp_path))[-1]


def test_rounding_of_another_machine_is_no_difference(record: dict[str, Any], tmp_path: Path) -> None:
    record["tests"][1]["ci_low"] += 1e-12
    assert differences(record, again(record, tmp_path)) == []


def test_a_record_may_not_lead_outside(record: dict[str, Any], tmp_path: Path) -> None:
    record["inputs"]["challenger"]["evaluations"]["boards"]["folder"] = "../../etc"
    with pytest.raises(FlawlineError, match="leads outside"):
        again(record, tmp_path)


@pytest.mark.parametrize("spoil", [
    lambda r: r.pop("inputs"),
    lambda r: r.update(inputs={}),
    lambda r: r["inputs"].pop("manifest"),
    lambda r: r["inputs"]["settings"].update(margin="wide"),
    lambda r: r["inputs"].update(challenger=[]),
])  # fmt: skip
def test_older_and_damaged_records_say_so(record: dict[str, Any], tmp_path: Path, spoil: Any) -> None:
    spoil(record)
    with pytest.raises(FlawlineError, match="cannot be taken again"):
        again(record, tmp_path)


def test_where_nothing_was_measured_there_is_nothing_to_check(tmp_path: Path) -> None:
    with pytest.raises(FlawlineError, match="nothing was measured"):
        again(undecided({"sha256": "n"}, {"sha256": "o"}, SETTINGS, "r", "why").record(), tmp_path)


def test_the_threshold_stands_on_the_card(tmp_path: Path) -> None:
    for card, expected in (
        ({"threshold": {"value": 0.5}}, 0.5),
        ({"threshold": 3}, None),
        ([], None),
        ({}, None),
    ):
        write_json(tmp_path / "card.json", card)
        assert threshold_of(tmp_path) == expected
