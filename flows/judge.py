"""The gate with its side effects: choose, register, decide, write down, promote. Safe to repeat."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flawline.errors import FlawlineError
from flawline.evaluate.tables import read_metrics
from flawline.files import read_json, read_parquet, sha256_file, sha256_folder
from flawline.settings import Settings
from flawline.track import decisions, registry
from flawline.track.challenger import choose_challenger
from flawline.track.gate import Candidate, Decision, decide
from flawline.track.log import LoggedRun, cells
from flawline.track.resolve import local_folder
from flawline.workspace import Cell, Workspace


@dataclass(frozen=True)
class Judgement:
    """What came of a retraining.

    Attributes:
        verdict: `promote`, `stay`, or `unchanged` where the challenger is the champion already.
        reason: a sentence.
        champion: who serves now, or None.
        challenger: who was judged, or None where no learned method could be.
        decision: the decision's file, or None where there was nothing to decide.
    """

    verdict: str
    reason: str
    champion: registry.Version | None
    challenger: registry.Version | None
    decision: Path | None


@dataclass(frozen=True)
class _Elsewhere(Workspace):
    """The workspace, but with one prompt set and its evaluations in folders of their own."""

    prompt_set: Path
    target: Path

    def prompts(self, cell: Cell) -> Path:
        return self.prompt_set

    def evaluation(self, cell: Cell, test: str) -> Path:
        return self.target / test


def judge(workspace: Workspace, settings: Settings, logged: LoggedRun) -> Judgement:
    """Put this retraining's challenger before the gate and act on the decision.

    The challenger is registered first, so that a decision can name its version and a person can promote it
    later; being registered serves nobody, only the alias champion does.

    Raises:
        FlawlineError: a file is missing or broken, or the registry cannot be used.
    """
    with registry.promotion_lock(workspace):
        champion = registry.by_alias(workspace, settings, registry.CHAMPION)
        cell = choose_challenger(
            read_metrics(workspace.metrics), settings.gate.better_in, _learned(workspace, settings)
        )
        if cell is None:
            reason = f"no learned method has {settings.gate.better_in} on any test set"
            return Judgement("stay", reason, champion, None, None)
        run_id = logged.children[cell.name]
        challenger = registry.register(workspace, settings, workspace.prompts(cell), run_id)
        if champion and champion.sha256 == challenger.sha256:
            reason = f"version {champion.version} is the best prompt set and serves already"
            return Judgement("unchanged", reason, champion, challenger, None)
        registry.set_challenger(workspace, settings, challenger)
        if decisions.was_rolled_back(workspace, challenger.sha256):
            reason = (
                f"version {challenger.version} was rolled back by hand, so the gate does not promote it again"
            )
            return Judgement("stay", reason, champion, challenger, None)
        record, file = _decided(workspace, settings, cell, challenger, champion)
        if record["verdict"] == "promote":
            registry.promote(workspace, settings, challenger)
            champion = registry.by_alias(workspace, settings, registry.CHAMPION)
        return Judgement(record["verdict"], record["reason"], champion, challenger, file)


def _decided(
    workspace: Workspace,
    settings: Settings,
    cell: Cell,
    challenger: registry.Version,
    champion: registry.Version | None,
) -> tuple[dict[str, Any], Path]:
    """The decision about these two on these results: the one that is there, or a new one."""
    results = sha256_file(workspace.metrics)
    found = decisions.find(workspace, challenger.sha256, champion.sha256 if champion else None, results)
    if found:
        return found
    new = Candidate(challenger.described(), _evaluations(workspace, settings, cell))
    try:
        old = _champion(workspace, settings, champion) if champion else None
    except FlawlineError as error:
        # For example: it was tuned on another backbone, or on images that now test.
        assert champion is not None
        problem = error.problem.replace(f"{workspace.root}/", "")
        reason = (
            f"not enough evidence: champion version {champion.version} cannot be measured here: {problem}"
        )
        gate = settings.gate
        decision = Decision(
            champion=champion.described(),
            challenger=new.described,
            against="champion",
            tests=(),
            verdict="stay",
            reason=reason,
            margin=gate.margin,
            confidence=gate.confidence,
            results=results,
        )
    else:
        baseline = None if old else _baseline(workspace, settings, cell)
        manifest = read_parquet(workspace.manifest)
        decision = decide(new, old, settings.gate, results, baseline, manifest)
    return decision.record(), decisions.append(workspace, decision.record())


def _champion(workspace: Workspace, settings: Settings, champion: registry.Version) -> Candidate:
    """The champion on the present test sets: from its cell if it is a present one, else measured now."""
    for cell in cells(settings):
        folder = workspace.prompts(cell)
        if folder.is_dir() and sha256_folder(folder) == champion.sha256:
            return Candidate(champion.described(), _evaluations(workspace, settings, cell))
    from flawline.stages import evaluate

    prompt_set = local_folder(workspace, settings, champion)
    target = workspace.state / "gate" / champion.sha256
    place = _Elsewhere(workspace.root, prompt_set, target)
    cell = Cell(champion.method, champion.train_set, champion.seed)
    for test in settings.data.test:
        evaluate.run(place, settings, cell, test)
    return Candidate(champion.described(), {test: target / test for test in settings.data.test})


def _baseline(workspace: Workspace, settings: Settings, cell: Cell) -> Candidate | None:
    """The hand-written prompts, tuned (in name) on the same set; the same seed if there is one."""
    there = [c for c in cells(settings) if c.method == settings.gate.baseline and c.train == cell.train]
    there.sort(key=lambda c: (c.seed != cell.seed, c.seed))
    if not there:
        return None
    first = there[0]
    described = {"version": None, "method": first.method, "train_set": first.train, "seed": first.seed}
    return Candidate(described, _evaluations(workspace, settings, first))


def _evaluations(workspace: Workspace, settings: Settings, cell: Cell) -> dict[str, Path]:
    return {test: workspace.evaluation(cell, test) for test in settings.data.test}


def _learned(workspace: Workspace, settings: Settings) -> set[str]:
    """Methods whose prompt sets hold learned parameters; the baseline never counts as one.

    Few-shot sets are no challengers: they can serve only products of which good images are remembered.
    """
    learned = set()
    for cell in cells(settings):
        card = read_json(workspace.prompts(cell) / "card.json")
        few_shot = bool(card.get("support"))
        learns = card.get("learned", {}).get("parameters", 0) > 0
        if cell.method != settings.gate.baseline and learns and not few_shot:
            learned.add(cell.method)
    return learned
