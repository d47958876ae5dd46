"""How data sets lie in folders. A layout turns a source folder into records; each family has a file here.

The order of these imports is the order in which `--layout auto` tries them; see flawline.data.layouts.base for how to
add one.
"""

from flawline.data.layouts import visa, btad, kolektor, dagm, realiad, mvtec, plain  # noqa: F401, I001
from flawline.data.layouts.base import (
    GOOD,
    LAYOUTS,
    Layout,
    Reading,
    Record,
    read_layout,
    read_source,
    recognise,
    register,
)
from flawline.data.layouts.listing import folders, images, match_masks
from flawline.data.layouts.plain import TRAIN_SHARE

__all__ = [
    "GOOD",
    "LAYOUTS",
    "TRAIN_SHARE",
    "Layout",
    "Reading",
    "Record",
    "folders",
    "images",
    "match_masks",
    "read_layout",
    "read_source",
    "recognise",
    "register",
]
