"""Stage `tune`: one prompt set from cached features of one training set."""

from dataclasses import asdict

import pandas as pd
import torch
from torch import Tensor

from flawline.clip.backbone import load_backbone
from flawline.clip.text_path import nearest_words
from flawline.data.vocabulary import Vocabulary, load_vocabulary
from flawline.determinism import derived_seed, make_torch_deterministic
from flawline.errors import FlawlineError
from flawline.features.pixels import PixelReader, files_of
from flawline.features.store import FeatureSet
from flawline.features.support import draw_support
from flawline.files import atomic_folder, write_json
from flawline.prompts import method_class, method_options
from flawline.prompts.shared.base import PromptMethod
from flawline.prompts.shared.batches import Inputs
from flawline.prompts.shared.prompt_set import save_prompt_set
from flawline.settings import Settings
from flawline.tune.loop import Curve, TuningData, tune
from flawline.tune.thresholds import choose_threshold
from flawline.workspace import Cell, Workspace


def run(workspace: Workspace, settings: Settings, cell: Cell) -> None:
    """Tune the prompt set of a cell; writes the prompt set and its curves.

    Raises:
        FlawlineError: unknown method, wrong options, or features of another backbone.
    """
    raw = settings.methods.get(cell.method)
    if raw is None:
        raise FlawlineError(f"params.yaml: methods has no '{cell.method}'", "describe it there")
    options = method_options(cell.method, raw)
    features = FeatureSet.open(workspace.features("train", cell.train))
    make_torch_deterministic(derived_seed("tune", cell.method, cell.train, cell.seed))
    backbone = load_backbone(settings.backbone, workspace.root)
    features.require(backbone)
    method = method_class(cell.method)(backbone, options, cell.seed)
    pixels = None
    if method.reads_pixels:
        pixels = PixelReader(files_of(features, workspace), backbone, settings.data.max_pixels)
    data = _data(features, method, load_vocabulary(workspace.vocabulary), cell.train, pixels)
    curve = tune(method, data, cell.seed)
    support = _remember(method, data, features, cell.seed)
    card = {
        "method": method.name,
        "fidelity": method.fidelity,
        "seed": cell.seed,
        "train_set": cell.train,
        "train_sha256": sorted(set(features.index.loc[~features.index.synthetic, "sha256"])),
        "backbone": backbone.card(),
        "image_paths": {role: features.card["paths"][name] for role, name in sorted(method.paths().items())},
        "options": options.model_dump(),
        "stages": [asdict(stage) for stage in method.stages()],
        "score": method.score_formula,
        "threshold": choose_threshold(method, data, settings.tune.threshold, support),
        "support": _described(method, features, support),
        "noun": options.noun,
        "words": method.words(),
        "learned": {"parameters": sum(p.numel() for p in method.parameters())},
    }
    save_prompt_set(workspace.prompts(cell), method, card)
    _save_tuning(workspace, cell, method, curve)


def _data(
    features: FeatureSet,
    method: PromptMethod,
    vocabulary: Vocabulary,
    dataset: str,
    pixels: PixelReader | None,
) -> TuningData:
    index, path = features.index, method.options.image_path
    return TuningData(
        inputs=Inputs(
            cls=torch.tensor(features.cls(path)),
            patches=torch.tensor(features.patches(path)),
            nouns=[vocabulary.object_words(dataset, category) for category in index.category],
            more={
                role: torch.tensor(features.patches(name))
                for role, name in sorted(method.more_paths().items())
            },
            categories=list(index.category),
        ),
        masks=torch.tensor(features.masks) > 0,
        labels=torch.tensor(index.label.to_numpy("int64")),
        defects=list(index.defect),
        pixels=pixels,
        synthetic=torch.tensor(index.synthetic.to_numpy("bool")),
    )


def _remember(method: PromptMethod, data: TuningData, features: FeatureSet, seed: int) -> Tensor:
    """Give a few-shot method good images of the training set; returns their rows int64, none for zero-shot."""
    if not method.needs_support:
        return torch.empty(0, dtype=torch.int64)
    rows = draw_support(features, method.options.shots, seed)
    method.remember(data.rows(rows).inputs)
    method.unfold()
    return rows


def _described(method: PromptMethod, features: FeatureSet, support: Tensor) -> dict[str, object] | None:
    """The support images by hash, for the card; None for a zero-shot method."""
    if not len(support):
        return None
    picked = features.index.iloc[support.numpy()]
    images = {str(name): sorted(part["sha256"]) for name, part in picked.groupby("category")}
    return {"shots": method.options.shots, "images": images}


def _save_tuning(workspace: Workspace, cell: Cell, method: PromptMethod, curve: Curve) -> None:
    tokens = {
        name: [
            [[word, round(value, 4)] for word, value in near]
            for near in nearest_words(method.backbone, learned)
        ]
        for name, learned in method.learned_tokens().items()
    }
    with atomic_folder(workspace.tuning(cell)) as folder:
        table = pd.DataFrame(curve, columns=["stage", "step", "quantity", "value"])
        table.to_csv(folder / "curves.csv", index=False, float_format="%.6g")
        write_json(folder / "tokens.json", tokens)
