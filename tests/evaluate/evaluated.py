"""A small evaluated line: two methods, one training set, two seeds, two test sets; no pictures."""

from dataclasses import replace

import numpy as np
import pandas as pd
from safetensors.numpy import save_file

from flawline.evaluate.histograms import pixel_histograms, quantile_edges
from flawline.evaluate.image_metrics import image_metrics
from flawline.evaluate.provenance import PROVENANCE, provenance
from flawline.evaluate.tables import COLUMNS, write_metrics
from flawline.files import write_json, write_parquet
from flawline.settings import Settings, load_settings
from flawline.workspace import Cell, Workspace

from .conftest import Made, make

METHODS, SEEDS, TESTS = ["learned", "words"], [0, 1], ["boards", "fabrics"]


def settings_of(workspace: Workspace) -> Settings:
    """The repository's settings for these cells."""
    settings = load_settings(workspace.params)
    data = settings.data.model_copy(update={"train": ["castings"], "test": TESTS})
    tune = settings.tune.model_copy(update={"methods": METHODS, "seeds": SEEDS})
    evaluate = settings.evaluate.model_copy(update={"bootstrap": 200})
    return settings.model_copy(update={"data": data, "tune": tune, "evaluate": evaluate})


def lay_out(workspace: Workspace) -> Settings:
    """Write the image table, prompt sets, features and evaluations; `learned` scores better than `words`."""
    write_parquet(workspace.manifest, manifest())
    for test in TESTS:
        write_parquet(workspace.features("test", test) / "index.parquet", index_of(test))
        write_json(workspace.features("test", test) / "card.json", {"fingerprint": "f" * 64})
    for method in METHODS:
        for seed in SEEDS:
            cell = Cell(method, "castings", seed)
            card = {
                "method": method, "train_set": "castings", "seed": seed, "train_sha256": ["castings-0", "castings-1"],
                "threshold": {"value": 2.0, "rule": "quantile", "quantile": 0.95, "from": "good training images"},
                "words": {"trained": ["stain"]} if method == "learned" else {},
            }  # fmt: skip
            write_json(workspace.prompts(cell) / "card.json", card)
            for test in TESTS:
                write_cell(workspace, cell, test)
    return settings_of(workspace)


def scored(method: str, seed: int, test: str) -> Made:
    """Images of a test set, the same for all, with one method's scores and maps of one seed."""
    made = make(TESTS.index(test), per_type=8)
    random = np.random.default_rng([METHODS.index(method), seed, TESTS.index(test)])
    noise = {"learned": 0.3, "words": 1.5}[method]
    maps = (made.maps + random.normal(0, noise, made.maps.shape)).astype(np.float32)
    scores = np.sort(maps.reshape(len(maps), -1), axis=1)[:, -12:].mean(axis=1)
    return replace(made, index=index_of(test), maps=maps, scores=scores)


def index_of(test: str) -> pd.DataFrame:
    """A features index; the content of an image is named after its number."""
    index = make(TESTS.index(test), per_type=8).index
    images = [image.replace("demo/", f"{test}/") for image in index["image"]]
    return index.assign(image=images, sha256=[f"{test}-{row}" for row in range(len(index))])


def manifest() -> pd.DataFrame:
    """The image table: two training images and all test images."""
    parts = [index_of(test).assign(dataset=test, split="test") for test in TESTS]
    trained = pd.DataFrame(
        {
            "image": [f"castings/gear/{name}.png" for name in ("train/good/0", "train/good/1", "test/crack/2")],
            "category": "gear", "defect": ["good", "good", "crack"], "label": [0, 0, 1],
            "sha256": ["castings-0", "castings-1", "castings-2"],
            "dataset": "castings", "split": ["train", "train", "test"],
        }
    )  # fmt: skip
    return pd.concat([trained, *parts], ignore_index=True)


def write_cell(workspace: Workspace, cell: Cell, test: str) -> None:
    """An evaluation folder: scores, histograms, metrics (macro image metrics alone) and provenance."""
    made, folder = scored(cell.method, cell.seed, test), workspace.evaluation(cell, test)
    write_parquet(
        folder / "scores.parquet", made.index.assign(image_score=made.scores).drop(columns="sha256")
    )
    masks = np.stack([np.zeros(made.maps.shape[1:], bool) if mask is None else mask for mask in made.masks])
    edges = quantile_edges(made.maps, masks, 256)
    held = pixel_histograms(made.maps, masks, np.ones(len(masks), dtype=bool), edges)
    save_file(
        {"normal": held.normal, "anomalous": held.anomalous, "edges": held.edges},
        folder / "histograms.safetensors",
    )
    labels, names = made.index["label"], made.index["category"]
    values = [image_metrics(labels[names == name], made.scores[names == name]) for name in sorted(set(names))]
    rows = [
        (cell.method, str(cell.seed), cell.train, test, "mean", "all", metric, np.mean([v[metric] for v in values]),
         0.4, 0.9, 16, 32)
        for metric in values[0]
    ]  # fmt: skip
    write_metrics(folder / "metrics.csv", pd.DataFrame(rows, columns=list(COLUMNS)))
    write_json(folder / PROVENANCE, provenance(workspace, cell, test))
