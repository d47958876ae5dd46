"""An ablation: every variant of a method through the ordinary stages, beside the main line: `flawline ablate`.

    make its DVC project → one task a DVC stage → table → log

Nothing here registers, judges or promotes anything, and nothing of the main line is run or changed.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from prefect import flow, task
from prefect.artifacts import create_markdown_artifact
from prefect.logging import get_run_logger

from flawline.errors import FlawlineError
from flawline.files import read_parquet, write_text
from flawline.line import pipeline
from flawline.line.ablation_graph import main_stage_of, make_project, variant_of
from flawline.line.lock import result_id
from flawline.line.lock_order import arrange
from flawline.line.recover import repair_lock, repair_rwlock, session
from flawline.settings import Settings, load_settings
from flawline.track.log import LoggedRun
from flawline.variants import DEFAULT, VariantId, entered, variants_of
from flawline.workspace import Cell, Workspace
from flows.prefect_here import prefect_here
from flows.runners import stage_runner
from flows.stages import run_stages, say, worth_retrying

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class Ablation:
    """A finished ablation.

    Attributes:
        method: whose it is.
        variants: those in the table, `default` first.
        run_id: its MLflow run; `logged` is False where this result was there before.
        table: the markdown file; the CSV lies beside it.
        stages: `ran`, `restored` or `unchanged` by stage name.
    """

    method: str
    variants: tuple[str, ...]
    run_id: str
    logged: bool
    table: Path
    stages: dict[str, str] = field(default_factory=dict)


@task(name="log to MLflow", retries=2, retry_delay_seconds=[2, 10], retry_condition_fn=worth_retrying)
def log_results(
    root: str, method: str, variants: list[str], seeds: list[int], stages: list[str]
) -> LoggedRun:
    """Write the table as CSV and markdown, and the result to MLflow unless it is there."""
    from flawline.track.log_ablation import log_ablation

    workspace = Workspace(Path(root))
    settings = load_settings(workspace.params)
    table = _write_tables(workspace, settings, method, variants, seeds)
    result = result_id(Workspace(workspace.ablation(method)), stages)
    cells = [(name, cell) for name in variants for cell in _cells(settings, method, seeds)]
    logged = log_ablation(workspace, settings, method, cells, table, result)
    get_run_logger().info("run %s, %s", logged.run_id, "new" if logged.new else "logged before")
    return logged


@flow(name="ablate")
def ablate(
    root: str,
    method: str,
    seeds: list[int] | None = None,
    parts: list[str] | None = None,
    force: bool = False,
) -> Ablation:
    """Run the variants of a method, only what has to run; tabulate and log all that are up to date.

    Args:
        root: the workspace.
        method: a key of `ablations`.
        seeds: of the tuning; by default tune.seeds.
        parts: variants, or parts as variants name them, that shall run; by default all.
        force: run them even where nothing changed.

    Raises:
        FlawlineError: bad input, or the main line has not made what the variants start from.
    """
    workspace = Workspace(Path(root))
    settings = load_settings(workspace.params)
    wanted, chosen = _wanted(settings, method, parts), list(seeds or settings.tune.seeds)
    with session(workspace):
        project = make_project(workspace, settings, method, chosen)
        for cleared in (*repair_rwlock(project), *repair_lock(project)):
            say(cleared)
        mine = pipeline.stages(project)
        _refuse_stale(workspace, {main_stage_of(s.name) for s in mine if variant_of(s.name) == DEFAULT})
        with stage_runner(workspace, settings) as runner:
            todo = [s for s in mine if variant_of(s.name) in wanted]
            outcomes = run_stages(project, todo, runner, force)
        arrange(project, [stage.name for stage in mine])
        stale = {variant_of(name) for name in pipeline.stale(project)}
        finished = [name for name in variants_of(settings, method) if name not in stale]
        names = [stage.name for stage in mine if variant_of(stage.name) in finished]
        logged = log_results(root, method, finished, chosen, names)
    table = workspace.ablation_tables / f"{method}.md"
    create_markdown_artifact(table.read_text(encoding="utf-8"), key=f"ablation-{_key(method)}")
    return Ablation(method, tuple(finished), logged.run_id, logged.new, table, outcomes)


def main(
    workspace_root: Path,
    methods: Sequence[str],
    seeds: Sequence[int] = (),
    parts: Sequence[str] = (),
    force: bool = False,
) -> list[Ablation]:
    """Run the ablations of these methods, one after another.

    Raises:
        FlawlineError: bad input, or the Prefect server cannot be reached.
    """
    workspace = Workspace.find(workspace_root)
    settings = load_settings(workspace.params)
    for method in methods:
        _wanted(settings, method, parts)
    done = []
    with session(workspace) as cleared, prefect_here(workspace):
        for what in cleared:
            say(what)
        for method in methods:
            say(f"ablation of {method}")
            done.append(ablate(str(workspace.root), method, list(seeds), list(parts), force))
    return done


def _wanted(settings: Settings, method: str, parts: Collection[str] | None) -> list[str]:
    """The variants that `parts` name, by variant or by part, with the default they are compared with."""
    variants = variants_of(settings, method)
    if not parts:
        return list(variants)
    found = {DEFAULT}
    for part in parts:
        named = {
            name
            for name, one in variants.items()
            if part == name or (one and part.casefold() == one.part.casefold())
        }
        if not named:
            known = ", ".join(name for name in variants if name != DEFAULT)
            raise FlawlineError(
                f"ablations.{method} has neither a variant nor a part '{part}'", f"it has {known}"
            )
        found |= named
    return [name for name in variants if name in found]


def _refuse_stale(workspace: Workspace, own: Collection[str]) -> None:
    """Variants start from what the main line has made; making that is `flawline retrain`'s.

    Args:
        workspace: of the main line.
        own: its stages, without their cells, that every variant runs itself; what these need must be there.
    """
    main_line = {stage.name: stage for stage in pipeline.stages(workspace)}
    needed: set[str] = set()
    waiting = [name for name in main_line if name.split("@")[0] in own]
    while waiting:
        upstream = [name for name in main_line[waiting.pop()].upstream if name.split("@")[0] not in own]
        waiting += [name for name in upstream if name not in needed]
        needed.update(upstream)
    stale = sorted(pipeline.stale(workspace, needed)) if needed else []
    if stale:
        more = f" (and {len(stale) - 1} more stages)" if len(stale) > 1 else ""
        raise FlawlineError(
            f"the main line must run before an ablation can start from it: {stale[0]}{more} is not up to date",
            "run flawline retrain",
        )


def _cells(settings: Settings, method: str, seeds: Collection[int]) -> list[Cell]:
    return [Cell(method, train, seed) for train in settings.data.train for seed in seeds]


def _write_tables(
    workspace: Workspace, settings: Settings, method: str, variants: Collection[str], seeds: Collection[int]
) -> "pd.DataFrame":
    """results/ablations/METHOD.csv and METHOD.md, from the evaluation folders."""
    from flawline.evaluate.ablation import Evaluated, ablation_table
    from flawline.evaluate.ablation_text import csv_text, markdown

    cells = []
    for name in variants:
        place, _ = entered(workspace, settings, VariantId(method, name))
        for cell in _cells(settings, method, seeds):
            cells += [
                Evaluated(name, cell.train, cell.seed, test, place.evaluation(cell, test))
                for test in settings.data.test
            ]
    table = ablation_table(method, cells, settings.evaluate, read_parquet(workspace.manifest))
    write_text(workspace.ablation_tables / f"{method}.csv", csv_text(table))
    text = markdown(table, variants_of(settings, method), settings.evaluate.confidence)
    write_text(workspace.ablation_tables / f"{method}.md", text)
    return table


def _key(method: str) -> str:
    """Prefect's artifact keys hold lower-case letters, digits and dashes."""
    return "".join(letter if letter.isalnum() else "-" for letter in method.lower())
