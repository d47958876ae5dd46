"""Evaluation folders read back, in the order of images whatever the order of rows."""

import numpy as np
import pandas as pd
import pytest
from safetensors.numpy import save_file

from flawline.errors import FlawlineError
from flawline.evaluate.stored import read_histograms, read_stored
from flawline.files import read_parquet, write_parquet
from flawline.workspace import Cell

from . import evaluated


@pytest.fixture
def folders(workspace):
    evaluated.lay_out(workspace)
    return [workspace.evaluation(Cell("learned", "castings", seed), "boards") for seed in evaluated.SEEDS]


def shuffle(folder):
    order = np.random.default_rng(0).permutation(48)
    held = read_histograms(folder, 48).rows(order)
    write_parquet(folder / "scores.parquet", read_parquet(folder / "scores.parquet").iloc[order])
    save_file(
        {"normal": held.normal, "anomalous": held.anomalous, "edges": held.edges},
        folder / "histograms.safetensors",
    )


def test_seeds_side_by_side_and_sorted(folders):
    before = read_stored(folders)
    assert before.scores.shape == (2, 48) and len(before.histograms) == 2
    assert before.images["image"].is_monotonic_increasing
    shuffle(folders[1])
    after = read_stored(folders)
    assert np.array_equal(before.scores, after.scores) and before.images.equals(after.images)
    assert np.array_equal(before.histograms[1].anomalous, after.histograms[1].anomalous)


def test_other_images_are_refused(folders):
    table = read_parquet(folders[1] / "scores.parquet")
    write_parquet(folders[1] / "scores.parquet", table.assign(label=1 - table["label"]))
    with pytest.raises(
        FlawlineError, match=r"learned/castings/0/boards and .*1/boards were not evaluated on the same"
    ):
        read_stored(folders)


def test_histograms_that_do_not_belong(folders):
    write_parquet(
        folders[0] / "scores.parquet", pd.DataFrame(read_parquet(folders[0] / "scores.parquet").iloc[:5])
    )
    with pytest.raises(FlawlineError, match="does not belong"):
        read_stored(folders[:1])
    (folders[0] / "histograms.safetensors").write_bytes(b"no")
    with pytest.raises(FlawlineError, match=r"histograms\.safetensors cannot be read"):
        read_stored(folders[:1])
