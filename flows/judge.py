"""The gate with its side effects: choose, register, decide, write down, promote. Safe to repeat.

Deciding may take minutes, because a champion of an earlier retraining is measured on the present images. It happens
without the promotion lock. Inside the lock the champion is read again: if it is another one by then (another
retraining was faster, or a person rolled back), the decision is not written down but taken anew.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from flawline.errors import FlawlineError
from flawline.evaluate.tables import read_metrics
from flawline.files import read_json, read_parquet, sha256_file, sha256_folder
from flawline.gate import decisions
from flawline.gate.candidate import Candidate, threshold_of
from flawline.gate.challenger import choose_challenger
from flawline.gate.check import inputs
from flawline.gate.cost import operations_or_none
from flawline.gate.decide import decide, undecided
from flawline.settings import Settings
from flawline.track import registry
from flawline.track.log import LoggedRun, cells
from flawline.track.resolve import keep, local_folder
from flawline.workspace import Cell, Workspace
from flows.measure import measure

_TRIES = 5
_WAIT_SECONDS = 3600


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


def judge(workspace: Workspace, settings: Settings, logged: LoggedRun) -> Judgement:
    """Put this retraining's challenger before the gate and act on the decision.

    The challenger is registered first, so that a decision can name its version and a person can promote it
    later; being registered serves nobody, only the alias champion does.

    Raises:
        FlawlineError: a file is missing or broken, or the registry cannot be used.
    """
    with _one_judge(workspace):
        cell = choose_challenger(
            read_metrics(workspace.metrics), settings.gate.better_in, _learned(workspace, settings)
        )
        if cell is None:
            reason = f"no learned method has {settings.gate.better_in} on any test set"
            champion = registry.by_alias(workspace, settings, registry.CHAMPION)
            return Judgement("stay", reason, champion, None, None)
        for _ in range(_TRIES):
            found = _judged(workspace, settings, cell, logged.children[cell.name])
            if found is not None:
                return found
        raise FlawlineError(
            f"the champion changed {_TRIES} times while {cell.name} was judged", "run flawline retrain again"
        )


def _judged(workspace: Workspace, settings: Settings, cell: Cell, run_id: str) -> Judgement | None:
    """One try: None where the champion became another one meanwhile."""
    with registry.promotion_lock(workspace, settings):
        champion = registry.by_alias(workspace, settings, registry.CHAMPION)
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
    record = _decided(workspace, settings, cell, challenger, champion)
    with registry.promotion_lock(workspace, settings):
        now = registry.by_alias(workspace, settings, registry.CHAMPION)
        if _sha(now) != _sha(champion):
            return None
        written = _known(workspace, settings, challenger, champion, record["results"])
        record, file = written or (record, decisions.append(workspace, record))
        if record["verdict"] == "promote":
            local_folder(workspace, settings, challenger)  # what serves was read back from the registry first
            registry.promote(workspace, settings, challenger)
            keep(workspace, settings, challenger)
            champion = registry.by_alias(workspace, settings, registry.CHAMPION)
        return Judgement(record["verdict"], record["reason"], champion, challenger, file)


@contextmanager
def _one_judge(workspace: Workspace) -> Iterator[None]:
    """A champion is measured in one place of the workspace: one process at a time."""
    from filelock import FileLock, Timeout

    workspace.state.mkdir(parents=True, exist_ok=True)
    lock = FileLock(workspace.state / "judge.lock", timeout=_WAIT_SECONDS)
    try:
        lock.acquire()
    except Timeout as error:
        raise FlawlineError(
            f"another retraining is being judged in {workspace.root}", "wait for it to end or stop it"
        ) from error
    try:
        yield
    finally:
        lock.release()


def _known(
    workspace: Workspace,
    settings: Settings,
    challenger: registry.Version,
    champion: registry.Version | None,
    results: str,
) -> tuple[dict[str, Any], Path] | None:
    gate = settings.gate.model_dump()
    return decisions.find(workspace, challenger.sha256, _sha(champion), results, gate)


def _sha(version: registry.Version | None) -> str | None:
    return version.sha256 if version else None


def _decided(
    workspace: Workspace,
    settings: Settings,
    cell: Cell,
    challenger: registry.Version,
    champion: registry.Version | None,
) -> dict[str, Any]:
    """The decision about these two on these results: the one that is there, or a new one, not yet written."""
    results = sha256_file(workspace.metrics)
    if found := _known(workspace, settings, challenger, champion, results):
        return found[0]
    new = _whole(workspace, settings, workspace.prompts(cell), Candidate(challenger.described(), {}), cell)
    try:
        old = _champion(workspace, settings, champion) if champion else None
        if old and champion:
            old = _whole(workspace, settings, local_folder(workspace, settings, champion), old)
    except FlawlineError as error:
        # For example: it was tuned on another backbone, or on images that now test.
        assert champion is not None
        problem = error.problem.replace(f"{workspace.root}/", "")
        why = f"champion version {champion.version} cannot be measured here: {problem}"
        return undecided(new.described, champion.described(), settings.gate, results, why).record()
    baseline = None if old else _baseline(workspace, settings, cell)
    known = decisions.known_types(workspace, champion.sha256) if champion else None
    manifest = read_parquet(workspace.manifest)
    decision = decide(new, old, settings.gate, results, baseline, manifest, known)
    read = inputs(new, old, baseline, settings.gate, workspace.manifest, known, workspace.root)
    return replace(decision, inputs=read).record()


def _whole(
    workspace: Workspace, settings: Settings, prompt_set: Path, candidate: Candidate, cell: Cell | None = None
) -> Candidate:
    """A candidate with what its card says and what it costs; of a present cell also with its evaluations and seeds."""
    if cell:
        seeds = [one for one in cells(settings) if (one.method, one.train) == (cell.method, cell.train)]
        candidate = replace(
            candidate,
            evaluations=_evaluations(workspace, settings, cell),
            seeds={one.seed: _evaluations(workspace, settings, one) for one in seeds},
        )
    cost = None if settings.gate.cost_factor is None else operations_or_none(prompt_set, workspace.root)
    return replace(candidate, threshold=threshold_of(prompt_set), cost=cost)


def _champion(workspace: Workspace, settings: Settings, champion: registry.Version) -> Candidate:
    """The champion on the present test sets: from its cell if it is a present one, else measured now."""
    for cell in cells(settings):
        folder = workspace.prompts(cell)
        if folder.is_dir() and sha256_folder(folder) == champion.sha256:
            return Candidate(champion.described(), _evaluations(workspace, settings, cell))
    prompt_set = local_folder(workspace, settings, champion)
    return Candidate(champion.described(), measure(workspace, settings, prompt_set, champion.sha256))


def _baseline(workspace: Workspace, settings: Settings, cell: Cell) -> Candidate | None:
    """The hand-written prompts, tuned (in name) on the same set; the same seed if there is one."""
    there = [c for c in cells(settings) if c.method == settings.gate.baseline and c.train == cell.train]
    there.sort(key=lambda c: (c.seed != cell.seed, c.seed))
    if not there:
        return None
    first = there[0]
    described = {"version": None, "method": first.method, "train_set": first.train, "seed": first.seed}
    plain = Candidate(described, _evaluations(workspace, settings, first))
    return _whole(workspace, settings, workspace.prompts(first), plain)


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
