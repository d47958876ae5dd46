"""Stage `features`: frozen CLIP features of one data set, training part or test part.

What the feature store (flawline.features.cache) has is not encoded again; the outputs are the same bytes either way.
"""

from pathlib import Path

import pandas as pd

from flawline.clip.backbone import load_backbone
from flawline.clip.image_path import resolve_paths
from flawline.determinism import make_torch_deterministic
from flawline.errors import FlawlineError
from flawline.features.cache import FeatureCache
from flawline.features.encode import Item, encode_items
from flawline.features.store import INDEX_COLUMNS, write_features
from flawline.files import inside, read_parquet, sha256_file
from flawline.settings import FeatureSettings, Settings
from flawline.workspace import Workspace


def run(workspace: Workspace, settings: Settings, part: str, dataset: str) -> None:
    """Write out/features/<part>/<dataset>/; for `test` also out/features/support/<dataset>/.

    Args:
        workspace: where everything lies.
        settings: `features` and `backbone` count.
        part: `train`: the good training images, then (`features.real`) the set's test split, then the synthetic
            images of out/synth/<dataset>, with masks;
            `test`: the test split; and, as support, up to `features.support` good training images a category.
        dataset: a folder below data/.

    Raises:
        FlawlineError: no such part or data set, no images, an image with a problem, a missing synthetic set.
    """
    if part not in ("train", "test"):
        raise FlawlineError(f"there is no part '{part}'", "the parts are train and test")
    make_torch_deterministic(settings.backbone.seed)
    real = _real_rows(read_parquet(workspace.manifest), part, dataset)
    index, items = real, [Item(inside(workspace.data, image)) for image in real["image"]]
    if part == "train":
        synthetic, more = _synthetic_rows(workspace.synth(dataset))
        tested = (
            _tested_rows(read_parquet(workspace.manifest), dataset) if settings.features.real else real[:0]
        )
        items += [
            _item(workspace, image, mask) for image, mask in zip(tested["image"], tested["mask"], strict=True)
        ]
        index, items = pd.concat([real, tested, synthetic], ignore_index=True), items + more
    index = _numbered(index)
    backbone = load_backbone(settings.backbone, workspace.root)
    resolve_paths(backbone, settings.features.paths)
    cache = _cache(workspace, settings.features)
    parts = [(part, index, items)]
    if part == "test":
        few = _support_rows(read_parquet(workspace.manifest), dataset, settings.features.support)
        parts.append(("support", few, [Item(inside(workspace.data, image)) for image in few["image"]]))
    for name, rows, wanted in parts:
        folder = workspace.features(name, dataset)
        with write_features(folder, rows, backbone, settings.features, with_masks=name == "train") as arrays:
            what = f"features of {dataset}" + (" (support)" if name == "support" else "")
            encode_items(wanted, backbone, settings.features, arrays, what, settings.data.max_pixels, cache)


def _cache(workspace: Workspace, settings: FeatureSettings) -> FeatureCache | None:
    """The feature store, or None where `features.cache_gb` is 0."""
    limit = round(settings.cache_gb * 1e9)
    folder = workspace.root / settings.cache
    return FeatureCache(folder, limit) if limit > 0 else None


def _real_rows(manifest: pd.DataFrame, part: str, dataset: str) -> pd.DataFrame:
    """Index rows of the manifest's images of this part, in the manifest's order."""
    rows = manifest[(manifest["dataset"] == dataset) & (manifest["split"] == part)]
    if part == "train":
        rows = rows[rows["label"] == 0]
    if rows.empty:
        kind = "good training" if part == "train" else "test"
        raise FlawlineError(
            f"{dataset}: the manifest lists no {kind} images", "check data/ and params.yaml (data:)"
        )
    bad = rows[rows["problem"].notna()]
    if len(bad):
        first = bad.iloc[0]
        raise FlawlineError(
            f"{first['image']}: {first['problem']} (one of {len(bad)} unusable images of {dataset})",
            "`flawline data check` names them all",
        )
    return rows.assign(row=0, synthetic=False)[INDEX_COLUMNS].reset_index(drop=True)


def _tested_rows(manifest: pd.DataFrame, dataset: str) -> pd.DataFrame:
    """The test split of a *training* set: good images, and defective ones that have a mask."""
    rows = manifest[(manifest["dataset"] == dataset) & (manifest["split"] == "test")]
    rows = rows[rows["problem"].isna() & ((rows["label"] == 0) | rows["mask"].notna())]
    return rows.assign(row=0, synthetic=False)[INDEX_COLUMNS].reset_index(drop=True)


def _item(workspace: Workspace, image: str, mask: object) -> Item:
    return Item(
        inside(workspace.data, image), inside(workspace.data, mask) if isinstance(mask, str) else None
    )


def _numbered(index: pd.DataFrame) -> pd.DataFrame:
    return index.assign(row=range(len(index))).astype({"row": "int64", "label": "int8", "synthetic": "bool"})


def _support_rows(manifest: pd.DataFrame, dataset: str, most: int) -> pd.DataFrame:
    """Good training images, the first `most` of each category by their hash: a draw that files alone decide.

    An image that also stands in the test split is left out: it would be compared with itself.
    """
    of_set = manifest[(manifest["dataset"] == dataset) & manifest["problem"].isna()]
    tested = set(of_set.loc[of_set["split"] == "test", "sha256"])
    good = of_set[(of_set["split"] == "train") & (of_set["label"] == 0) & ~of_set["sha256"].isin(tested)]
    few = good.sort_values(["category", "sha256"]).groupby("category", sort=True).head(most)
    return _numbered(few.assign(row=0, synthetic=False)[INDEX_COLUMNS].reset_index(drop=True))


def _synthetic_rows(folder: Path) -> tuple[pd.DataFrame, list[Item]]:
    """Index rows of a synthetic set: image and mask are relative to its folder, the noise is the defect."""
    table = read_parquet(folder / "index.parquet").sort_values("file", kind="stable").reset_index(drop=True)
    images = [f"images/{name}" for name in table["file"]]
    masks = [f"masks/{name}" for name in table["file"]]
    rows = pd.DataFrame(
        {
            "row": 0,
            "image": images,
            "category": table["category"],
            "defect": table["noise"],
            "label": 1,
            "mask": masks,
            "sha256": [sha256_file(inside(folder, image)) for image in images],
            "synthetic": True,
        }
    )
    items = [
        Item(inside(folder, image), inside(folder, mask)) for image, mask in zip(images, masks, strict=True)
    ]
    return rows[INDEX_COLUMNS], items
