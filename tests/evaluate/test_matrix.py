"""The matrix: every cell with its hashes; a leaked or stale cell is refused; the stage writes all or nothing."""

import numpy as np
import pandas as pd
import pytest

from flawline.errors import FlawlineError
from flawline.evaluate.compare import compare
from flawline.evaluate.matrix import COLUMNS, cells, matrix, matrix_page, matrix_table, read_matrix
from flawline.evaluate.provenance import PROVENANCE, provenance
from flawline.evaluate.significance import read_tests
from flawline.evaluate.tables import read_metrics
from flawline.files import read_json, sha256_file, sha256_folder, write_json, write_parquet
from flawline.stages import compare as stage
from flawline.workspace import Cell

from . import evaluated

CELL = Cell("learned", "castings", 1)


@pytest.fixture
def line(workspace):
    return workspace, evaluated.lay_out(workspace)


def made(line):
    workspace, settings = line
    return matrix(workspace, settings, evaluated.manifest(), compare(workspace, settings))


def test_every_cell_with_what_it_was_made_from(line):
    workspace, settings = line
    table = made(line)
    assert table.columns.tolist() == list(COLUMNS)
    assert len(table) == len(cells(settings)) * 3 == 8 * 3
    row = table[
        (table["method"] == "learned") & (table["seed"] == "1") & (table["test_set"] == "fabrics")
    ].iloc[0]
    assert row["prompts_sha256"] == sha256_folder(workspace.prompts(CELL))
    assert row["manifest_sha256"] == sha256_file(workspace.manifest)
    assert len(row["features_sha256"]) == 64 and row["train_images"] == 2
    assert table.groupby("test_set")["features_sha256"].nunique().tolist() == [1, 1]
    assert table["features_sha256"].nunique() == 2 and table["prompts_sha256"].nunique() == 4
    assert not {"mean"} & {*table["seed"], *table["test_set"]}


def test_a_target_image_that_trained_is_refused_under_any_name(line):
    workspace, settings = line
    table = evaluated.manifest()
    copied = table.assign(sha256=table["sha256"].replace("fabrics-5", "castings-1"))
    with pytest.raises(FlawlineError) as caught:
        matrix(workspace, settings, copied, compare(workspace, settings))
    message = str(caught.value)
    assert copied[copied["sha256"] == "castings-1"]["image"].tolist()[1] in message
    assert "castings/gear/train/good/1.png has the same content" in message and "\n" not in message


def test_an_evaluation_with_other_prompts_or_images_is_stale(line):
    workspace, _ = line
    card = read_json(workspace.prompts(CELL) / "card.json")
    write_json(workspace.prompts(CELL) / "card.json", card | {"noun": "part"})
    with pytest.raises(
        FlawlineError, match=r"learned/castings/1/boards/provenance\.json: evaluated with .*prompts"
    ):
        made(line)
    write_json(workspace.prompts(CELL) / "card.json", card)
    made(line)
    write_parquet(workspace.manifest, evaluated.manifest().iloc[1:])
    with pytest.raises(FlawlineError, match=r"manifest\.parquet .* which is now"):
        made(line)


def test_a_broken_or_missing_provenance_is_named(line):
    workspace, _ = line
    path = workspace.evaluation(CELL, "boards") / PROVENANCE
    write_json(path, {"prompts_sha256": "x"})
    with pytest.raises(FlawlineError, match=r"provenance\.json names no"):
        made(line)
    path.unlink()
    with pytest.raises(FlawlineError, match=r"1/boards/provenance\.json is missing"):
        made(line)


def test_provenance_follows_what_it_names(line):
    workspace, _ = line
    before = provenance(workspace, CELL, "boards")
    write_json(workspace.features("test", "boards") / "card.json", {"fingerprint": "0" * 64})
    after = provenance(workspace, CELL, "boards")
    assert {key for key in before if before[key] != after[key]} == {"features_sha256"}
    with pytest.raises(FlawlineError, match=r"castings/7/card\.json is missing"):
        provenance(workspace, Cell("learned", "castings", 7), "boards")
    (workspace.features("test", "boards") / "card.json").unlink()
    with pytest.raises(FlawlineError, match=r"card\.json is missing"):
        provenance(workspace, CELL, "boards")


def test_read_by_people(line):
    table = made(line)
    shown = matrix_table(table, "image_auroc")
    assert shown.columns.tolist() == ["train_set", "method", "boards", "fabrics"]
    values = table[
        (table["metric"] == "image_auroc") & (table["method"] == "words") & (table["test_set"] == "boards")
    ]
    expected = f"{values['value'].mean():.3f} ± {values['value'].std():.3f}"
    assert shown[shown["method"] == "words"]["boards"].tolist() == [expected]
    table = table[~((table["test_set"] == "boards") & (table["metric"] == "image_ap"))]
    assert set(matrix_table(table, "image_ap")["boards"]) == {"–"}
    assert "±" not in matrix_page(table[table["seed"] == "0"]).partition("##")[2]
    page = matrix_page(table)
    assert page.count("| castings | ") == 3 * 2 and "## image_f1_max" in page


def test_the_stage_writes_everything_and_the_same_bytes_again(line):
    workspace, settings = line
    stage.run(workspace, settings)
    folder = workspace.metrics.parent
    names = ["matrix.csv", "matrix.md", "metrics.csv", "tests.csv"]
    assert sorted(path.name for path in folder.iterdir()) == names
    first = {name: (folder / name).read_bytes() for name in names}
    assert len(read_metrics(workspace.metrics)) and len(read_tests(folder / "tests.csv"))
    assert np.allclose(read_matrix(folder / "matrix.csv")["value"], made(line)["value"], atol=1e-6)
    stage.run(workspace, settings)
    assert first == {name: (folder / name).read_bytes() for name in names}


def test_a_leak_leaves_no_results(line):
    workspace, settings = line
    table = evaluated.manifest()
    write_parquet(
        workspace.manifest,
        pd.DataFrame(table.assign(sha256=table["sha256"].replace("boards-3", "castings-0"))),
    )
    with pytest.raises(FlawlineError, match="of 'boards' trained these prompts"):
        stage.run(workspace, settings)
    assert not workspace.metrics.exists()
