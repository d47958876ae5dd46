"""Where a tuning step spends its time, a method: the phases of the loop, and the operations that cost most.

Random features of a batch on the backbone named, one thread. Phases are processor seconds, each without the phases
inside it; `text` is the forward pass of the text tower, `backward` all gradients, most of which run through the tower.
Operations are torch.profiler's, the median of several steps.

    python -m benchmarks.profile [METHOD…] [--backbone NAME] [--size PIXELS] [--steps N] [--operations N]
"""

import argparse
import statistics
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest.mock import patch

METHODS = ("human_free", "anomalyclip", "faprompt", "apt")
TINY = "flawline-tiny"


class Phases:
    """Processor seconds of named phases; one inside another counts for the inner one alone."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = defaultdict(float)
        self._open: list[str] = []
        self._last = time.process_time()

    def _switch(self) -> None:
        now = time.process_time()
        if self._open:
            self.seconds[self._open[-1]] += now - self._last
        self._last = now

    def timed(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        """The function, counted as this phase."""

        def run(*given: Any, **named: Any) -> Any:
            self._switch()
            self._open.append(name)
            try:
                return function(*given, **named)
            finally:
                self._switch()
                self._open.pop()

        return run


def make_step(method_name: str, backbone: Any) -> Callable[[], object]:
    """One step of the loop in the method's first stage, on random features."""
    import torch
    import torch.nn.functional as F

    from flawline.prompts import method_class, method_options
    from flawline.prompts.shared.batches import Inputs
    from flawline.tune import loop

    options = method_options(method_name, {"image_path": "vv"})
    method = method_class(method_name)(backbone, options, 0)
    stage = method.stages()[0]
    count, side = stage.batch, backbone.image_size
    generator = torch.Generator().manual_seed(0)
    patches = torch.randn(count, 1, backbone.grid**2, backbone.dim, generator=generator)
    masks = torch.zeros(count, side, side, dtype=torch.bool)
    masks[count // 2 :, side // 4 : side // 2, side // 4 : side // 2] = True
    data = loop.TuningData(
        Inputs(F.normalize(patches[:, 0, 0], dim=-1), F.normalize(patches, dim=-1).half()),
        masks,
        (torch.arange(count) >= count // 2).long(),
        ["good"] * (count // 2) + ["stain"] * (count - count // 2),
    )
    data = method.before_stage(stage, data)
    parameters = loop._trained(method, stage)
    optimiser = loop._optimiser(stage, parameters)
    rows = torch.arange(count)
    return lambda: loop._step(method, stage, data.rows(rows), parameters, optimiser)


def phases_of(method_name: str, backbone: Any, steps: int) -> dict[str, float]:
    """Processor seconds a step of each phase."""
    import torch

    from flawline.clip.prompt_tree import PromptTree
    from flawline.tune import loop

    phases = Phases()
    module = __import__(f"flawline.prompts.{method_name}", fromlist=["x"])
    places: list[tuple[Any, str, str]] = [
        (loop.TuningData, "rows", "rows"),
        (loop, "shared_losses", "losses"),
        (torch.Tensor, "backward", "backward"),
        (torch.autograd, "grad", "backward"),
        (torch.optim.SGD, "step", "optimiser"),
        (torch.optim.Adam, "step", "optimiser"),
    ]
    places += [(module, name, "text") for name in ("encode_prompts", "encode_deep") if hasattr(module, name)]
    places.append((PromptTree, "encode", "text"))
    if hasattr(module, "shared_losses"):
        places.append((module, "shared_losses", "losses"))
    step = make_step(method_name, backbone)
    step()
    patches = [
        patch.object(place, name, phases.timed(phase, getattr(place, name))) for place, name, phase in places
    ]
    for one in patches:
        one.start()
    try:
        for _ in range(steps):
            phases.timed("other", step)()
    finally:
        for one in patches:
            one.stop()
    return {name: seconds / steps for name, seconds in phases.seconds.items()}


def operations_of(method_name: str, backbone: Any, steps: int, most: int) -> list[tuple[str, float]]:
    """The operations with the largest shares of a step's time, the median of several steps."""
    from torch.profiler import ProfilerActivity, profile

    step = make_step(method_name, backbone)
    step()
    seconds: dict[str, list[float]] = defaultdict(list)
    for _ in range(steps):
        with profile(activities=[ProfilerActivity.CPU]) as found:
            step()
        for event in found.key_averages():
            seconds[event.key].append(event.self_cpu_time_total)
    typical = {name: statistics.median(values) for name, values in seconds.items() if len(values) == steps}
    total = sum(typical.values())
    return sorted(((name, value / total) for name, value in typical.items()), key=lambda item: -item[1])[
        :most
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("methods", nargs="*", help=f"default: {', '.join(METHODS)}")
    parser.add_argument("--backbone", default=TINY)
    parser.add_argument("--size", type=int, default=None, help="pixels; default: the backbone's own")
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--operations", type=int, default=6)
    given = parser.parse_args()

    from flawline.clip.backbone import load_backbone
    from flawline.determinism import make_torch_deterministic
    from flawline.settings import BackboneSettings

    make_torch_deterministic(0, threads=1)
    settings = BackboneSettings(name=given.backbone, weights="none", image_size=given.size)
    backbone = load_backbone(settings, Path())
    print(f"{given.backbone} at {backbone.image_size} px, default options, one thread, random weights")
    for method in given.methods or METHODS:
        phases = phases_of(method, backbone, given.steps)
        total = sum(phases.values())
        shares = ", ".join(
            f"{name} {seconds / total:.0%}"
            for name, seconds in sorted(phases.items(), key=lambda item: -item[1])
        )
        print(f"{method}: {1000 * total:.0f} ms a step: {shares}", flush=True)
        for name, share in operations_of(method, backbone, given.steps, given.operations):
            print(f"    {share:4.0%} {name}")


if __name__ == "__main__":
    main()
