"""Stage `tune`: one prompt set from cached features of one training set."""

from dataclasses import asdict

import pandas as pd
import torch

from flawline.clip.backbone import load_backbone
from flawline.clip.text_path import nearest_words
from flawline.data.vocabulary import Vocabulary, load_vocabulary
from flawline.determinism import derived_seed, make_torch_deterministic
from flawline.errors import FlawlineError
from flawline.features.store import FeatureSet
from flawline.files import atomic_folder, write_json
from flawline.prompts import method_class, method_options
from flawline.prompts.base import PromptMethod
from flawline.prompts.prompt_set import save_prompt_set
from flawline.settings import Settings
from flawline.tune.loop import Curve, TuningData, tune
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
    data = _data(features, options.image_path, load_vocabulary(workspace.vocabulary), cell.train)
    curve = tune(method, data, cell.seed)
    card = {
        "method": method.name,
        "fidelity": method.fidelity,
        "seed": cell.seed,
        "train_set": cell.train,
        "train_sha256": sorted(set(features.index.loc[~features.index.synthetic, "sha256"])),
        "backbone": backbone.card(),
        "image_path": features.card["paths"][options.image_path],
        "options": options.model_dump(),
        "stages": [asdict(stage) for stage in method.stages()],
        "score": method.score_formula,
        "threshold": _threshold(method, data, settings.tune.threshold_quantile),
        "noun": options.noun,
        "words": method.words(),
        "learned": {"parameters": sum(p.numel() for p in method.parameters())},
    }
    save_prompt_set(workspace.prompts(cell), method, card)
    _save_tuning(workspace, cell, method, curve)


def _data(features: FeatureSet, path: str, vocabulary: Vocabulary, dataset: str) -> TuningData:
    index = features.index
    return TuningData(
        cls=torch.tensor(features.cls),
        patches=torch.tensor(features.patches(path)),
        masks=torch.tensor(features.masks) > 0,
        labels=torch.tensor(index.label.to_numpy("int64")),
        nouns=[vocabulary.object_words(dataset, category) for category in index.category],
    )


def _threshold(method: PromptMethod, data: TuningData, quantile: float) -> dict[str, object]:
    """Image score above which an image is anomalous: a quantile of the good training images' scores."""
    good = (data.labels == 0).nonzero()[:, 0]
    rows = data.rows(good)
    scores, _ = method.score(rows.cls, rows.patches, rows.nouns, method.backbone.image_size)
    value = torch.quantile(scores, quantile).item()
    return {"value": value, "quantile": quantile, "from": "good training images"}


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
