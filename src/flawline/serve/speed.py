"""Which plan is fastest here: a short measurement, kept below .flawline/ so that it is made once.

Precision and compiler pay or cost depending on processor, backbone and batch: bfloat16 made ViT-L/14 three times
faster and a ViT-B six times slower on one and the same processor. So plans are timed, and a plan whose scores or maps
differ by more than TOLERANCE from the plain ones is never taken. Evaluation knows nothing of this.
"""

import hashlib
import json
import os
import platform
import shutil
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Protocol

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from flawline.clip.products import has_onednn
from flawline.data.scratch import NAME, scratch
from flawline.files import write_json
from flawline.serve.encoder import PLAIN, Encoder, Plan

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

    from flawline.clip.backbone import Backbone
    from flawline.detector import Detector

#: largest difference of an image score or of a map's pixel, both in 0..1, at which a plan counts as agreeing
TOLERANCE = 0.01
#: a plan replaces the plain one only if it takes at most this share of its time: less is noise
WORTH = 0.95
#: compiling takes tens of seconds, and is tried only if as many images as this are expected
LEAST_TO_COMPILE = 2000
FILE = "speed.json"
_ROUNDS = 3

Seconds = Annotated[float, Field(ge=0, allow_inf_nan=False)]


class Timed(BaseModel):
    """What was measured of one plan: seconds before its first result beyond a usual one, seconds a batch, and the
    largest difference of its scores and maps to the plain plan's."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    start: Seconds
    batch: Seconds
    difference: Seconds


class Kept(BaseModel):
    """One entry of the cache file: what was measured, which plans were tried, and where it holds."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    of: dict[str, Any]
    tried: list[str]
    plans: dict[str, Timed]


#: the whole file: entries by the hash of their circumstances
_KEPT = TypeAdapter(dict[str, Kept])

#: makes of a plan a call that scores one batch: scores [B], maps [B, S, S]
Run = Callable[[Plan], Callable[[], "tuple[np.ndarray, np.ndarray]"]]


class Seen(Protocol):
    """What a method says of one picture."""

    @property
    def score(self) -> float: ...
    @property
    def map(self) -> "Tensor": ...


#: scores pictures [B, 3, S, S] with an encoder
Look = Callable[["Tensor", Encoder], Sequence[Seen]]


def candidates(compiler: bool) -> list[Plan]:
    """Plans worth timing, the plain one first."""
    plans = [PLAIN, Plan(narrow=True), Plan("bfloat16", narrow=True)]
    compiled = [Plan(plan.precision, True, True) for plan in plans[1:]] if compiler else []
    return plans + [Plan(narrow=True, onednn=True)] * has_onednn() + compiled


def has_compiler() -> bool:
    """Whether torch.compile finds the C++ compiler that it calls: CXX, or g++."""
    return shutil.which(os.environ.get("CXX") or "g++") is not None


def measure(
    plans: Iterable[Plan], run: Run, clock: Callable[[], float] = time.perf_counter
) -> dict[str, Timed]:
    """Time plans on the same pictures.

    Args:
        plans: what to time, the plain one first.
        run: as `Run`.
        clock: seconds.

    Returns:
        By the plan's name. A plan that fails here (a compiler without headers, a kernel that is not there) is left
        out; the plain one may not fail.
    """
    found: dict[str, Timed] = {}
    wanted: tuple[np.ndarray, np.ndarray] | None = None
    for plan in plans:
        try:
            start = clock()
            score = run(plan)
            told = score()
            first = clock() - start
            took = []
            for _ in range(_ROUNDS):
                start = clock()
                score()
                took.append(clock() - start)
        except Exception:  # torch's compilers fail with errors of their own; the plain plan remains
            if plan == PLAIN:
                raise
            continue
        wanted = wanted or told
        apart = max(float(abs(one - other).max()) for one, other in zip(told, wanted, strict=True))
        usual = sorted(took)[_ROUNDS // 2]
        found[plan.name] = Timed(start=max(0.0, first - usual), batch=usual, difference=apart)
    return found


def choose(measured: dict[str, Timed], batches: float) -> Plan:
    """The plan that ends first with that many batches, among those that agree; PLAIN where none is worth it."""
    known = {plan.name: plan for plan in candidates(compiler=True)}
    plain = measured[PLAIN.name].batch * batches
    best, least = PLAIN, plain * WORTH
    for name, timed in measured.items():
        cost = timed.start * known[name].compiled + timed.batch * batches
        if timed.difference <= TOLERANCE and name != PLAIN.name and cost <= least:
            best, least = known[name], cost
    return best


def fastest_plan(detector: "Detector", look: Look, expected: int, root: Path) -> Plan:
    """The plan for a detector, from the cache file or measured now (seconds; a minute or two with a compiler).

    Args:
        detector: a loaded prompt set.
        look: as the detector scores a batch.
        expected: images that will be scored; decides whether compiling pays.
        root: the workspace, below which the cache file lies.
    """
    compiler = has_compiler() and expected >= LEAST_TO_COMPILE
    plans = candidates(compiler)
    told = circumstances(detector)
    key = hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()[:16]
    path = root / NAME / FILE
    kept = _read(path)
    if key not in kept or not {plan.name for plan in plans} <= set(kept[key].tried):
        kept[key] = Kept(
            of=told, tried=[plan.name for plan in plans], plans=measure(plans, _runs(detector, look))
        )
        scratch(root)
        write_json(path, _KEPT.dump_python(dict(sorted(kept.items())), mode="json"))
    return choose(kept[key].plans, expected / detector.batch)


def _runs(detector: "Detector", look: Look) -> Run:
    import numpy as np

    pictures = probe(detector.method.backbone, detector.batch)

    def run(plan: Plan) -> "Callable[[], tuple[np.ndarray, np.ndarray]]":
        encoder = Encoder(detector.method, detector.paths, detector.batch, plan)

        def score() -> "tuple[np.ndarray, np.ndarray]":
            seen = look(pictures, encoder)
            return np.array([one.score for one in seen]), np.stack([one.map.numpy() for one in seen])

        return score

    return run


def probe(backbone: "Backbone", batch: int) -> "Tensor":
    """A batch of pictures to measure with, good and flawed ones, always the same: [batch, 3, S, S]."""
    import numpy as np
    import torch
    from PIL import Image

    from flawline.render.samples import SETS, draw_flawed, draw_good

    drawn = []
    for _, look in sorted(SETS["boards"].items()):
        drawn += [draw_good(look, 1).picture, draw_flawed(look, look.defects[0], 2)[0]]
    seen = [backbone.preprocess(Image.fromarray(np.uint8(255 * one.clip(0, 1)))) for one in drawn]
    return torch.stack([seen[number % len(seen)] for number in range(batch)])


def _read(path: Path) -> dict[str, Kept]:
    """What is kept; nothing where the file is not there or not ours: it can be made again at any time."""
    try:
        return _KEPT.validate_json(path.read_bytes())
    except (OSError, ValidationError):
        return {}


def circumstances(detector: "Detector") -> dict[str, Any]:
    """All that a measurement depends on; another one of these, another measurement."""
    import torch

    from flawline.clip.weights import sha256_state

    method, backbone = detector.method, detector.method.backbone
    device = backbone.device
    return {
        "machine": _processor(),
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else device.type,
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "backbone": backbone.fingerprint,
        "size": backbone.image_size,
        "batch": detector.batch,
        "paths": {role: path.model_dump() for role, path in sorted(detector.paths.items())},
        "method": method.name,
        "prompts": sha256_state(method),
        "options": method.options.model_dump(mode="json"),
    }


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text(encoding="utf-8", errors="replace").splitlines() if info.is_file() else []
    named = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return named[0] if named else platform.processor() or platform.machine()
