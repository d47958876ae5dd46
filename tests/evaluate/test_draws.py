import numpy as np
import pytest

from flawline.evaluate.bootstrap import resample, strata_of
from flawline.evaluate.draws import weight_blocks

CATEGORIES = np.asarray(["a"] * 11 + ["b"] * 8)
LABELS = np.asarray([0] * 6 + [1] * 5 + [0] * 4 + [1] * 4)
GROUPS = np.asarray(
    [None, "p", "p", None, None, "", "p", "q", "q", None, None] + ["r"] * 3 + [None] * 5, dtype=object
)


@pytest.mark.parametrize("groups", [None, GROUPS])
@pytest.mark.parametrize("cells", [1, 100, 1 << 20])
def test_blocks_are_the_rows_of_resample(groups, cells):
    strata = strata_of(CATEGORIES, LABELS)
    blocks = list(weight_blocks(strata, 300, 5, groups, cells))
    assert np.array_equal(np.concatenate(blocks), resample(strata, 300, 5, groups))
    assert max(len(block) for block in blocks) <= max(1, min(256, cells // len(strata)))
