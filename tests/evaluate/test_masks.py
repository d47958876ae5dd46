import numpy as np
import pandas as pd
import pytest
from PIL import Image

from flawline.errors import FlawlineError
from flawline.evaluate.masks import read_masks, resize_mask


def test_resize_keeps_place_and_size():
    mask = np.zeros((60, 120), dtype=bool)
    mask[15:30, 60:90] = True
    found = resize_mask(mask, 24)
    assert found.shape == (24, 24) and found.dtype == bool
    assert found[6:12, 12:18].all() and found.sum() == 36


def test_half_covered_is_not_covered():
    mask = np.zeros((4, 4), dtype=bool)
    mask[0, :2] = True
    mask[2:, 2:] = True
    assert resize_mask(mask, 2).tolist() == [[False, False], [False, True]]


def test_a_scratch_thinner_than_a_pixel_survives():
    mask = np.zeros((100, 100), dtype=bool)
    mask[52, 10:90] = True
    found = resize_mask(mask, 10)
    assert found[5, 1:9].all() and found.sum() == 8


def test_an_empty_mask_stays_empty():
    assert not resize_mask(np.zeros((9, 9), dtype=bool), 4).any()


def test_upscaling_doubles():
    assert resize_mask(np.eye(2, dtype=bool), 4).sum() == 8


def index(*masks):
    return pd.DataFrame({"label": [1] * len(masks), "mask": list(masks)})


def test_reads_by_path_and_leaves_out_what_has_none(workspace):
    folder = workspace.data / "demo"
    folder.mkdir(parents=True)
    Image.fromarray(np.eye(8, dtype=np.uint8)).save(folder / "größe 1.png")
    table = index("demo/größe 1.png", None, float("nan"))
    table.loc[len(table)] = [0, "demo/größe 1.png"]
    found = read_masks(table, workspace, 8)
    assert found[0].tolist() == np.eye(8, dtype=bool).tolist()
    assert found[1:] == [None, None, None]


def test_a_missing_mask_is_named(workspace):
    with pytest.raises(FlawlineError, match=r"gone\.png"):
        read_masks(index("demo/gone.png"), workspace, 8)


def test_a_broken_mask_is_named(workspace):
    workspace.data.mkdir()
    (workspace.data / "text.png").write_text("no picture")
    with pytest.raises(FlawlineError, match=r"text\.png"):
        read_masks(index("text.png"), workspace, 8)


def test_a_mask_outside_data_is_refused(workspace):
    workspace.data.mkdir()
    with pytest.raises(FlawlineError, match="outside"):
        read_masks(index("../params.yaml"), workspace, 8)
