"""The staged loop that all methods share. It knows stages and named losses, and no method."""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from flawline.errors import FlawlineError
from flawline.progress import track
from flawline.prompts.shared.base import PromptMethod, TuningStage
from flawline.prompts.shared.batches import Batch, Inputs
from flawline.tune.guidance import project
from flawline.tune.losses import shared_losses, total


@dataclass(frozen=True)
class TuningData:
    """A training set: what methods see of its n good and anomalous rows, in the stored dtype.

    Attributes:
        inputs: cached features, as `Inputs`.
        masks: bool [n, S, S]. labels: int64 [n]. defects: the noise of each row, `good` for good ones.
        pixels: gives the images [b, 3, S, S] of rows int64 [b], for methods that read them.
        origin: int64 [n], the row of `pixels` that each row is; None: they are the same.
        synthetic: bool [n], which rows were made; None: nobody knows, and every anomaly counts.
    """

    inputs: Inputs
    masks: Tensor
    labels: Tensor
    defects: list[str] = field(default_factory=list)
    pixels: Callable[[Tensor], Tensor] | None = None
    origin: Tensor | None = None
    synthetic: Tensor | None = None

    def rows(self, picked: Tensor) -> Batch:
        """The batch of some rows, features in float32."""
        seen = self.inputs.rows(picked)
        seen = replace(
            seen,
            cls=seen.cls.float(),
            patches=seen.patches.float(),
            more={role: values.float() for role, values in seen.more.items()},
            pixels=self._pixels(picked) if self.pixels else seen.pixels,
        )
        defects = [self.defects[k] for k in picked.tolist()] if self.defects else []
        return Batch(seen, self.labels[picked], self.masks[picked], defects)

    def only(self, picked: Tensor) -> "TuningData":
        """The training set of some rows."""
        return TuningData(
            self.inputs.rows(picked),
            self.masks[picked],
            self.labels[picked],
            [self.defects[k] for k in picked.tolist()] if self.defects else [],
            self.pixels,
            picked if self.origin is None else self.origin[picked],
            None if self.synthetic is None else self.synthetic[picked],
        )

    def _pixels(self, picked: Tensor) -> Tensor:
        assert self.pixels is not None
        return self.pixels(picked if self.origin is None else self.origin[picked])


Curve = list[tuple[str, int, str, float]]  # stage, step, quantity, value


def tune(method: PromptMethod, data: TuningData, seed: int) -> Curve:
    """Run all stages of a method; its parameters are changed in place.

    Returns:
        The training curve: one row a step and quantity (each loss, the total, the share of guided steps).
    """
    curve: Curve = []
    generator = torch.Generator().manual_seed(seed)
    for stage in method.stages():
        seen = _supervised(method, stage, data)
        _run_stage(method, stage, method.before_stage(stage, seen), generator, curve)
        method.after_stage(stage, seen)
    method.requires_grad_(False).eval()
    method.unfold()
    return curve


def _supervised(method: PromptMethod, stage: TuningStage, data: TuningData) -> TuningData:
    """The good rows and those anomalies that the stage learns from."""
    if data.synthetic is None or stage.supervision == "both":
        wanted = torch.ones(len(data.labels), dtype=torch.bool)
    else:
        wanted = (data.labels == 0) | (data.synthetic == (stage.supervision == "synthetic"))
    if not (data.labels[wanted] == 1).any():
        raise FlawlineError(
            f"stage {stage.name} of {method.name} learns from {stage.supervision} anomalies, and there are none",
            "set features.real: true for real ones, or the method's supervision: synthetic",
        )
    return data if bool(wanted.all()) else data.only(wanted.nonzero()[:, 0])


def _run_stage(
    method: PromptMethod, stage: TuningStage, data: TuningData, generator: torch.Generator, curve: Curve
) -> None:
    method.train()
    parameters = _trained(method, stage)
    optimiser = _optimiser(stage, parameters)
    batches = max(1, math.ceil(int((data.labels == 1).sum()) / max(1, stage.batch // 2)))
    step, steps = 0, stage.epochs * batches
    for epoch in track(range(stage.epochs), f"tuning {method.name}, stage {stage.name}"):
        for picked in _balanced(data.labels, stage.batch, generator):
            _set_rate(optimiser, stage, step, steps)
            values = _step(method, stage, data.rows(picked), parameters, optimiser)
            curve += [(stage.name, step, quantity, value) for quantity, value in values.items()]
            if not math.isfinite(values["total"]):
                raise FlawlineError(
                    f"tuning {method.name} diverged at step {step} of stage {stage.name}",
                    f"lower methods.{method.name}.learning_rate",
                )
            step += 1
        method.after_epoch((epoch + 1) / stage.epochs)


def _trained(method: PromptMethod, stage: TuningStage) -> list[Tensor]:
    """Freeze what the stage does not name and return the rest, in the module's order."""
    parameters: list[Tensor] = []
    for name, parameter in method.named_parameters():
        parameter.requires_grad_(name.startswith(stage.trains))
        if parameter.requires_grad:
            parameters.append(parameter)
    if not parameters:
        raise ValueError(f"stage {stage.name} of {method.name} trains nothing: {stage.trains}")
    return parameters


def _optimiser(stage: TuningStage, parameters: list[Tensor]) -> torch.optim.Optimizer:
    if stage.optimiser == "adam":
        return torch.optim.Adam(
            parameters, stage.learning_rate, (0.5, 0.999), weight_decay=stage.weight_decay
        )
    return torch.optim.SGD(
        parameters, stage.learning_rate, momentum=stage.momentum, weight_decay=stage.weight_decay
    )


def _set_rate(optimiser: torch.optim.Optimizer, stage: TuningStage, step: int, steps: int) -> None:
    rate = stage.learning_rate
    if stage.schedule == "cosine":
        rate = stage.final_rate + (rate - stage.final_rate) * 0.5 * (1 + math.cos(math.pi * step / steps))
    for group in optimiser.param_groups:
        group["lr"] = rate


def _balanced(labels: Tensor, batch: int, generator: torch.Generator) -> Iterator[Tensor]:
    """Batches of half good, half anomalous rows; an epoch sees every anomalous row once, good ones in turn."""
    good, bad = (labels == 0).nonzero()[:, 0], (labels == 1).nonzero()[:, 0]
    half = max(1, batch // 2)
    bad = bad[torch.randperm(len(bad), generator=generator)]
    turns = -(-len(bad) // len(good))
    pool = torch.cat([good[torch.randperm(len(good), generator=generator)] for _ in range(turns)])
    for start in range(0, len(bad), half):
        anomalous = bad[start : start + half]
        yield torch.cat([pool[start : start + len(anomalous)], anomalous])


def _step(
    method: PromptMethod,
    stage: TuningStage,
    batch: Batch,
    parameters: list[Tensor],
    optimiser: torch.optim.Optimizer,
) -> dict[str, float]:
    prediction = method.predict(batch)
    terms = shared_losses(set(stage.losses), batch, prediction) | method.own_losses(batch, prediction)
    loss = total(stage.losses, terms)
    values = {name: term.item() for name, term in sorted(terms.items())}
    guide = method.guide_loss(batch, prediction) if stage.guidance != "none" else None
    optimiser.zero_grad(set_to_none=True)
    if guide is None:
        loss.backward()
    elif stage.guidance == "loss":
        loss = loss + stage.guidance_weight * guide
        loss.backward()
        values["guide"] = guide.item()
    else:
        task_gradients = torch.autograd.grad(loss, parameters, retain_graph=True)
        guide_gradients = torch.autograd.grad(guide, parameters)
        changed = 0
        for parameter, task, guiding in zip(parameters, task_gradients, guide_gradients, strict=True):
            parameter.grad = project(task, guiding, stage.guidance_weight)
            changed += parameter.grad is not task
        values |= {"guide": guide.item(), "guided": changed / len(parameters)}
    optimiser.step()
    return values | {"total": loss.item()}
