"""Groups are read from the image table by path."""

import pandas as pd

from flawline.evaluate.groups import groups_of

IMAGES = ["a.png", "b.png", "c.png"]


def test_by_path_and_absent_without_any() -> None:
    manifest = pd.DataFrame({"image": ["c.png", "a.png", "x.png", "b.png"], "group": ["p", "p", "p", None]})
    manifest["category"] = ["nut", "nut", "bolt", "nut"]
    assert list(groups_of(IMAGES, manifest)) == ["nut/p", None, "nut/p"]
    assert list(groups_of(["x.png", "a.png"], manifest)) == ["bolt/p", "nut/p"]
    assert groups_of(["b.png"], manifest) is None
    assert groups_of(IMAGES, manifest[["image"]]) is None
    assert groups_of(IMAGES, manifest.assign(group="")) is None
    assert groups_of(IMAGES, manifest.assign(group=pd.Series([pd.NA] * 4, dtype="str"))) is None
