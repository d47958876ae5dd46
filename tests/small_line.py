"""A whole line in miniature, for tests: real files in the real formats, made from numbers instead of images.

Run as a script it is the stages of its own dvc.yaml. How well a method finds defects stands in quality.json.
"""

import json
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np

TESTS = ("boards", "fabrics")
SIDE, PER_CLASS = 8, 12

PARAMS = """\
data: {train: [castings], test: [boards, fabrics]}
checks: {}
backbone: {name: tiny, weights: none}
features: {paths: {vv: {attention: vv}}}
synth: {noises: {gaussian: 1}}
methods: {words: {}, learned: {}}
tune: {methods: [words, learned], seeds: [0, 1, 2]}
evaluate: {bootstrap: 100, bins: 64, overlays: 1}
gate: {metrics: [image_auroc, pixel_auroc], bootstrap: 200, cost_factor: null, false_alarm_margin: 0.5}
track: {experiment: small, model: small}
"""

DVC_YAML = f"""\
stages:
  tune:
    cmd: {sys.executable} small_line.py tune
    deps: [small_line.py, quality.json]
    outs: [out/prompts, out/tuning, out/manifest.parquet, out/checks]
  evaluate:
    matrix:
      test: [boards, fabrics]
    cmd: {sys.executable} small_line.py evaluate ${{item.test}}
    deps: [small_line.py, quality.json, out/prompts]
    outs: ["out/evaluation-${{item.test}}"]
  compare:
    cmd: {sys.executable} small_line.py compare
    deps: [out/evaluation-boards, out/evaluation-fabrics]
    outs:
      - results/metrics.csv: {{cache: false}}
      - out/evaluation
  report:
    cmd: {sys.executable} small_line.py report
    deps: [results/metrics.csv, decisions]
    outs:
      - reports/index.html: {{cache: false}}
"""


def make_workspace(root: Path, learned: float = 0.95, words: float = 0.6) -> None:
    """A DVC workspace (no git) with the miniature line, nothing run yet."""
    root.mkdir(parents=True, exist_ok=True)
    (root / "params.yaml").write_text(PARAMS.replace("overlays: 1", "overlays: 0"))  # pictures take time
    (root / "dvc.yaml").write_text(DVC_YAML)
    (root / "small_line.py").write_text(Path(__file__).read_text(encoding="utf-8"), encoding="utf-8")
    (root / "decisions").mkdir(exist_ok=True)
    (root / "decisions" / "README.md").write_text("decisions\n")
    set_quality(root, learned=learned, words=words)
    init_dvc(root)


def init_dvc(root: Path) -> None:
    """`dvc init --no-scm`, without its words: its log handler keeps the standard error of an earlier test."""
    import logging

    from dvc.repo import Repo

    logger = logging.getLogger("dvc")
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        Repo.init(str(root), no_scm=True).close()
    finally:
        logger.setLevel(level)


def set_quality(root: Path, **quality: float) -> None:
    """0.5 is guessing, 1 is perfect; changing it makes the stages stale."""
    (root / "quality.json").write_text(json.dumps(quality))


def write_prompt_set(folder: Path, method: str, seed: int, quality: float) -> Path:
    """A valid prompt set whose one tensor holds its quality."""
    from safetensors.numpy import save_file

    folder.mkdir(parents=True, exist_ok=True)
    save_file({"context": np.full((2, 4), quality, np.float32)}, folder / "prompts.safetensors")
    card = {
        "method": method,
        "fidelity": "reconstruction",
        "seed": seed,
        "train_set": "castings",
        "train_hash": "0" * 64,
        "train_sha256": [],
        "backbone": {
            "name": "tiny",
            "weights": "none",
            "weights_sha256": "0" * 64,
            "image_size": 128,
            "seed": 0,
        },
        "image_paths": {"main": {"attention": "vv", "first_block": 1, "levels": [6]}},
        "options": {"noun": "object", "rates": [0.1, 0.2]},
        "threshold": {"value": 0.5, "quantile": 0.95, "from": "good training images"},
        "score": "softmax",
        "noun": "object",
        "words": {"normal": ["good"], "anomalous": ["damaged"]},
        "learned": {"parameters": 0 if method == "words" else 8},
    }
    (folder / "card.json").write_text(json.dumps(card, indent=2))
    return folder


def scored(test: str, quality: float, seed: int) -> tuple:
    """A features index, scores and maps of a test set, better the higher the quality."""
    import pandas as pd

    rng = np.random.default_rng([seed, TESTS.index(test)])
    rows, scores, maps, masks = [], [], [], []
    for category in ("nut", "schraube ü"):
        for k in range(2 * PER_CLASS):
            label = int(k >= PER_CLASS)
            defect = "crack" if label else "good"
            rows.append((f"{test}/{category}/test/{defect}/{k:03d}.png", category, defect, label))
            mask = np.zeros((SIDE, SIDE), bool)
            mask[2:5, 2:5] = bool(label)
            gap = 6 * (quality - 0.5)
            scores.append(rng.normal(gap * label))
            maps.append(rng.normal(size=(SIDE, SIDE)) + gap * mask)
            masks.append(mask if label else None)
    index = pd.DataFrame(rows, columns=["image", "category", "defect", "label"])
    return index, np.array(scores), np.array(maps, dtype=np.float32), masks


def write_evaluation(folder: Path, test: str, method: str, seed: int, quality: float) -> None:
    """A real evaluation folder; run in a workspace."""
    from PIL import Image

    from flawline.evaluate.cell import evaluate_cell, write_cell
    from flawline.settings import load_settings

    settings = load_settings(Path("params.yaml"))
    identity = {"method": method, "seed": seed, "train_set": "castings", "test_set": test}
    result = evaluate_cell(
        *scored(test, quality, 0 if method == "words" else seed), settings.evaluate, identity
    )
    write_cell(result, folder, lambda path: Image.new("RGB", (SIDE, SIDE)))


def finish(root: Path) -> None:
    """Do in this process what the stages do, without DVC: for tests of what reads their files."""
    before = Path.cwd()
    root.mkdir(parents=True, exist_ok=True)
    (root / "params.yaml").write_text(PARAMS)
    set_quality(root, learned=0.95, words=0.6)
    os.chdir(root)
    try:
        tune()
        for test in TESTS:
            evaluate(test)
        compare()
        report()
    finally:
        os.chdir(before)
    entry = {
        "cmd": "make",
        "deps": [{"path": "data", "md5": "1.dir"}],
        "outs": [{"path": "out", "md5": "2.dir"}],
    }
    late = {"cmd": "show", "deps": [{"path": "decisions", "md5": "3.dir"}]}
    lock = {"schema": "2.0", "stages": {"make": entry, "report": late}}
    (root / "dvc.lock").write_text(json.dumps(lock))  # JSON is YAML


def cells() -> Iterator[tuple[str, int]]:
    for method in ("words", "learned"):
        for seed in (0, 1, 2):
            yield method, seed


def tune() -> None:
    import pandas as pd

    quality = json.loads(Path("quality.json").read_text())
    if "refuse" in quality:
        print("error: castings/a.png: zero bytes — replace the file", file=sys.stderr)
        sys.exit(2)
    for method, seed in cells():
        write_prompt_set(Path(f"out/prompts/{method}/castings/{seed}"), method, seed, quality[method])
        tuning = Path(f"out/tuning/{method}/castings/{seed}")
        tuning.mkdir(parents=True, exist_ok=True)
        (tuning / "curves.csv").write_text("stage,step,quantity,value\ntext,0,loss,1.5\ntext,1,loss,0.5\n")
        tokens = {"anomalous": [[["rust", 0.9], ["a|b`c", 0.5]]]} if method == "learned" else {}
        (tuning / "tokens.json").write_text(json.dumps(tokens))
    rows = [("castings", "train", f"castings/nut/train/good/{k}.png") for k in range(4)]
    rows += [(test, "test", f"{test}/nut/test/good/{k}.png") for test in TESTS for k in range(4)]
    pd.DataFrame(rows, columns=["dataset", "split", "image"]).to_parquet("out/manifest.parquet", index=False)
    Path("out/checks").mkdir(exist_ok=True)
    Path("out/checks/summary.json").write_text('{"ok": true}')
    print("tuned")


def evaluate(test: str) -> None:
    quality = json.loads(Path("quality.json").read_text())
    time.sleep(float(os.environ.get("SMALL_LINE_SLEEP", 0)))
    for method, seed in cells():
        target = Path(f"out/evaluation-{test}/{method}/castings/{seed}")
        write_evaluation(target, test, method, seed, quality[method])


def compare() -> None:
    import shutil

    from flawline.evaluate.compare import compare as table
    from flawline.evaluate.tables import write_metrics
    from flawline.settings import load_settings
    from flawline.workspace import Workspace

    for test in TESTS:
        for method, seed in cells():
            part = Path(f"{method}/castings/{seed}")
            shutil.copytree(f"out/evaluation-{test}" / part, Path("out/evaluation") / part / test)
    write_metrics(
        Path("results/metrics.csv"), table(Workspace(Path.cwd()), load_settings(Path("params.yaml")))
    )


def report() -> None:
    names = sorted(path.name for path in Path("decisions").glob("*.json"))
    Path("reports").mkdir(exist_ok=True)
    Path("reports/index.html").write_text(f"<html>{names}</html>")


if __name__ == "__main__":
    print(f"{' '.join(sys.argv[1:])} begins", flush=True)
    {"tune": tune, "evaluate": evaluate, "compare": compare, "report": report}[sys.argv[1]](*sys.argv[2:])
