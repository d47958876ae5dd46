"""Stage `synthesize`: anomalous images with masks from the good images of one training set (OAGM)."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from PIL import Image

from flawline.clip.backbone import Backbone, load_backbone
from flawline.clip.image_path import encode_image
from flawline.data.images import load_rgb
from flawline.data.vocabulary import Vocabulary, load_vocabulary
from flawline.determinism import derived_seed, make_torch_deterministic
from flawline.errors import FlawlineError
from flawline.files import atomic_folder, inside, read_parquet, write_json, write_parquet
from flawline.progress import track
from flawline.settings import Settings, SynthSettings
from flawline.synth.anomalies import check_noises, make_anomaly
from flawline.synth.contact_sheet import Example, contact_sheet, pick
from flawline.synth.object_mask import VV, object_mask, similarity_maps, word_direction
from flawline.workspace import Workspace

WORKING_SIDE = 512  # pixels of the longer side; larger images are reduced, unless the backbone sees more
EXAMPLES = 24
_BATCH = 16


@dataclass
class _Writer:
    """Collects what one run writes into its folder."""

    folder: Path
    shown: set[int]
    rows: list[dict[str, object]] = field(default_factory=list)
    objects: dict[str, dict[str, str]] = field(default_factory=dict)
    examples: list[Example] = field(default_factory=list)


def run(workspace: Workspace, settings: Settings, train: str) -> None:
    """Write out/synth/<train>/: images, masks, objects, index.parquet, contact_sheet.png.

    Each image's chance depends on `synth.seed`, its own bytes and the variant's number, so neither the order
    nor the other images matter. `objects/index.json` says from which source each object mask came.

    Raises:
        FlawlineError: the manifest lists no usable good training images of this set, or an unknown noise.
    """
    make_torch_deterministic(settings.backbone.seed)
    check_noises(settings.synth)
    rows = _good_rows(read_parquet(workspace.manifest), train)
    vocabulary = load_vocabulary(workspace.vocabulary)
    clip = settings.synth.object_mask == "clip"
    backbone = load_backbone(settings.backbone, workspace.root) if clip else None
    largest = max(WORKING_SIDE, settings.backbone.image_size or 0, backbone.image_size if backbone else 0)
    with atomic_folder(workspace.synth(train)) as folder:
        for name in ("images", "masks", "objects"):
            (folder / name).mkdir()
        writer = _Writer(folder, set(pick(len(rows) * settings.synth.variants, EXAMPLES)))
        pictures = _pictures(workspace, settings, rows, largest)
        found = _with_similarity(pictures, rows, train, vocabulary, backbone)
        for number, (row, picture, similarity) in enumerate(track(found, f"synthetic {train}", len(rows))):
            _make(writer, settings.synth, number, row, picture, similarity)
        table = pd.DataFrame(writer.rows, columns=["file", "source", "category", "noise", "area"])
        write_parquet(folder / "index.parquet", table)
        write_json(folder / "objects" / "index.json", writer.objects)
        contact_sheet(writer.examples).save(folder / "contact_sheet.png", optimize=True)


def _good_rows(manifest: pd.DataFrame, train: str) -> pd.DataFrame:
    rows = manifest[
        (manifest["dataset"] == train) & (manifest["split"] == "train") & (manifest["label"] == 0)
    ]
    if rows.empty:
        raise FlawlineError(
            f"{train}: the manifest lists no good training images", "check data.train and data/"
        )
    bad = rows[rows["problem"].notna()]
    if len(bad):
        first = bad.iloc[0]
        raise FlawlineError(
            f"{first['image']}: {first['problem']} (one of {len(bad)} unusable images of {train})",
            "`flawline data check` names them all",
        )
    return rows.sort_values("image", kind="stable").reset_index(drop=True)


def _pictures(
    workspace: Workspace, settings: Settings, rows: pd.DataFrame, largest: int
) -> Iterator[Image.Image]:
    """The good images, reduced where their longer side is above `largest`."""
    for image in rows["image"]:
        picture = load_rgb(inside(workspace.data, image), settings.data.max_pixels)
        scale = largest / max(picture.size)
        if scale < 1:
            size = (max(1, round(picture.width * scale)), max(1, round(picture.height * scale)))
            picture = picture.resize(size, Image.Resampling.LANCZOS)
        yield picture


def _with_similarity(
    pictures: Iterator[Image.Image],
    rows: pd.DataFrame,
    train: str,
    vocabulary: Vocabulary,
    backbone: Backbone | None,
) -> Iterator[tuple[pd.Series, Image.Image, np.ndarray | None]]:
    """Each row with its picture and, where CLIP is asked, its similarity map [grid, grid]."""
    directions: dict[str, torch.Tensor] = {}
    for start in range(0, len(rows), _BATCH):
        part = [row for _, row in rows.iloc[start : start + _BATCH].iterrows()]
        batch = [next(pictures) for _ in part]
        if backbone is None:
            yield from ((row, picture, None) for row, picture in zip(part, batch, strict=True))
            continue
        inputs = torch.stack([backbone.preprocess(picture) for picture in batch])
        patches = encode_image(backbone, inputs, {"vv": VV})["vv"].patches[:, 0]
        for place, (row, picture) in enumerate(zip(part, batch, strict=True)):
            category = row["category"]
            if category not in directions:
                directions[category] = word_direction(backbone, vocabulary.object_words(train, category))
            similarity = similarity_maps(patches[place : place + 1], directions[category], backbone.grid)[0]
            yield row, picture, similarity


def _make(
    writer: _Writer,
    settings: SynthSettings,
    number: int,
    row: pd.Series,
    picture: Image.Image,
    similarity: np.ndarray | None,
) -> None:
    """All variants of one good image."""
    pixels = np.asarray(picture)
    image = pixels.astype(np.float32) / 255.0
    found = object_mask(image, similarity, settings.object_mask)
    object_file = f"{number:05d}.png"
    _save(writer.folder / "objects" / object_file, found.mask)
    writer.objects[row["image"]] = {"file": object_file, "from": found.source}
    for variant in range(settings.variants):
        rng = np.random.default_rng(derived_seed(settings.seed, row["sha256"], variant))
        changed, mask, noise, area = make_anomaly(image, found.mask, settings, rng)
        place = number * settings.variants + variant
        file = f"{place:05d}.png"
        synthetic = np.round(changed * 255.0).astype(np.uint8)
        Image.fromarray(synthetic).save(writer.folder / "images" / file)
        _save(writer.folder / "masks" / file, mask)
        writer.rows.append(
            {"file": file, "source": row["image"], "category": row["category"], "noise": noise, "area": area}
        )
        if place in writer.shown:
            caption = f"{row['category']}: {noise}, {area:.1%} of the object ({found.source})"
            writer.examples.append(Example(pixels, found.mask, synthetic, mask, caption))


def _save(path: Path, mask: np.ndarray) -> None:
    Image.fromarray((mask * 255).astype(np.uint8)).save(path)
