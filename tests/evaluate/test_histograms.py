import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from flawline.evaluate.histograms import (
    SpooledHistograms,
    pixel_histograms,
    quantile_edges,
    region_histograms,
)


def test_edges_rise_and_span_the_scores(made):
    masks = np.stack([np.zeros(made.maps.shape[1:], bool) if m is None else m for m in made.masks])
    edges = quantile_edges(made.maps, masks, 64)
    assert edges.dtype == np.float32 and len(edges) <= 65
    assert np.all(np.diff(edges) > 0)
    assert edges[0] == made.maps.min() and edges[-1] == made.maps.max()


@pytest.mark.parametrize("maps", [np.zeros((2, 4, 4), np.float32), np.zeros((0, 4, 4), np.float32)])
def test_edges_of_constant_or_no_maps(maps):
    edges = quantile_edges(maps, np.zeros(maps.shape, bool), 64)
    assert len(edges) == 2 and edges[0] < edges[1]


def test_edges_without_defects_use_all_bins():
    maps = np.random.default_rng(0).random((2, 32, 32)).astype(np.float32)
    assert len(quantile_edges(maps, np.zeros(maps.shape, bool), 64)) == 65


def test_counts_equal_numpys_and_leave_out_unused_images():
    random = np.random.default_rng(0)
    maps, masks = random.random((3, 8, 8)).astype(np.float32), random.random((3, 8, 8)) < 0.3
    edges = np.linspace(0, 1, 9).astype(np.float32)
    found = pixel_histograms(maps, masks, np.asarray([True, False, True]), edges)
    assert found.used.tolist() == [True, False, True]
    for row in (0, 2):
        assert found.anomalous[row].tolist() == np.histogram(maps[row][masks[row]], edges)[0].tolist()
        assert found.normal[row].tolist() == np.histogram(maps[row][~masks[row]], edges)[0].tolist()


def test_scores_outside_the_edges_are_counted_at_the_ends():
    maps = np.asarray([[[-5.0, 0.5, 9.0]]], dtype=np.float32)
    found = pixel_histograms(
        maps, np.zeros(maps.shape, bool), np.asarray([True]), np.asarray([0.0, 0.4, 1.0])
    )
    assert found.normal.tolist() == [[1, 2]]


def test_regions_add_up():
    mask = np.zeros((1, 6, 6), dtype=bool)
    mask[0, :2, :2], mask[0, 5, 5] = True, True
    maps = np.zeros((1, 6, 6), np.float32)
    maps[0, 5, 5] = 1
    overlap, regions = region_histograms(maps, mask, np.asarray([True]), np.asarray([0.0, 0.5, 1.0]))
    assert regions.tolist() == [2] and overlap.tolist() == [[1.0, 1.0]]


def test_spooled_ones_are_those_in_memory_and_their_file_is_the_librarys(made, tmp_path):
    masks = np.stack([np.zeros(made.maps.shape[1:], bool) if m is None else m for m in made.masks])
    use = np.arange(len(masks)) % 5 != 0
    edges = quantile_edges(made.maps, masks, 64)
    spooled = SpooledHistograms(len(masks), edges, tmp_path)
    for rows in np.array_split(np.random.default_rng(0).permutation(len(masks)), 5):
        spooled.count(rows, made.maps[rows], masks[rows], use[rows])
    whole, found = pixel_histograms(made.maps, masks, use, edges), spooled.load()
    assert np.array_equal(found.normal, whole.normal) and np.array_equal(found.anomalous, whole.anomalous)
    overlap, regions = region_histograms(made.maps, masks, use, edges)
    assert np.array_equal(spooled.overlap.read(np.arange(len(masks))), overlap)
    assert np.array_equal(spooled.regions, regions)
    spooled.save(tmp_path / "ours.safetensors")
    tensors = {"normal": whole.normal, "anomalous": whole.anomalous, "edges": whole.edges}
    save_file(tensors, tmp_path / "theirs.safetensors")
    assert (tmp_path / "ours.safetensors").read_bytes() == (tmp_path / "theirs.safetensors").read_bytes()
    assert load_file(tmp_path / "ours.safetensors")["normal"].shape == whole.normal.shape
