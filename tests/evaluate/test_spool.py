import io
from pathlib import Path

import numpy as np

from flawline.evaluate.spool import RowSpool


def test_rows_come_back_in_any_order_and_unwritten_ones_are_zero(tmp_path):
    spool = RowSpool(600, 3, np.int32, tmp_path)
    values = np.arange(1200).reshape(400, 3)
    rows = np.random.default_rng(0).permutation(600)[:400]
    spool.write(rows, values)
    assert np.array_equal(spool.read(rows[::-1]), values[::-1])
    whole = np.zeros((600, 3), np.int32)
    whole[rows] = values
    parts = [part for _, part in spool.blocks(np.arange(600))]
    assert len(parts) > 1 and np.array_equal(np.concatenate(parts), whole)
    stream = io.BytesIO()
    spool.copy_to(stream)
    assert stream.getvalue() == whole.tobytes()


def test_leaves_no_file_and_no_open_descriptor(tmp_path):
    before = len(list(Path("/dev/fd").iterdir()))
    spool = RowSpool(2, 2, np.float64, tmp_path)
    assert list(tmp_path.iterdir()) == []
    del spool
    assert len(list(Path("/dev/fd").iterdir())) == before
