"""Runs of deployments on a real server and a real worker: side by side, after each other, and when they fail."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from running import PrefectServer, Service, wait_for

import small_line
from aftermath import assert_sound_and_repeatable
from conftest import Line, restore  # type: ignore[import-not-found]
from flawline.files import sha256_file
from flawline.line.recover import session

pytestmark = pytest.mark.slow
Worker = Callable[..., Service]


def test_two_retrainings_at_once_wait_for_each_other_and_double_nothing(
    line: Callable[..., Line], worker: Worker, undisturbed: Path
) -> None:
    here = line()
    restore(undisturbed, here.root)
    here.deploy()
    first, second = here.start(), here.start()
    worker(here.api, here.pool)
    seen = set()

    def both_ended() -> bool:
        states = [here.run(run).state for run in (first, second)]
        seen.add(tuple(sorted(state.name for state in states)))
        return all(state.is_final() for state in states)

    wait_for("both runs end", both_ended, 240)
    assert [here.run(run).state.name for run in (first, second)] == ["Completed", "Completed"]
    assert not any(names == ("Running", "Running") for names in seen), "never both at once"
    assert any("AwaitingConcurrencySlot" in names for names in seen), "the other one stood in line"
    assert here.logged() == 7 and len(here.versions()) == 1 and here.decisions() == ["0001-promote.json"]
    metrics = here.workspace.metrics
    assert sha256_file(metrics) == sha256_file(undisturbed / "results/metrics.csv")
    assert_sound_and_repeatable(here.root)


def test_a_run_waits_for_a_retraining_that_somebody_runs_by_hand(
    line: Callable[..., Line], worker: Worker, undisturbed: Path
) -> None:
    here = line()
    restore(undisturbed, here.root)
    here.deploy()
    with session(here.workspace):
        run = here.start()
        worker(here.api, here.pool)
        here.begun(run)
        trace = here.workspace.state / "runs" / f"{run}.json"
        wait_for("the run stands at the workspace's door", trace.is_file)
        assert not here.log("tune")
    assert here.ended(run).name == "Completed" and here.logged() == 7
    assert not trace.exists()


def test_a_failed_run_leaves_champion_data_and_mlflow_as_they_were(
    line: Callable[..., Line], worker: Worker, undisturbed: Path
) -> None:
    here = line()
    restore(undisturbed, here.root)
    here.deploy()
    worker(here.api, here.pool)
    assert here.ended(here.start()).name == "Completed"
    results = here.workspace.metrics.read_bytes()
    data = (here.root / "data.dvc").read_bytes()
    before = (here.logged(), here.versions(), here.decisions(), data, results)

    small_line.set_quality(here.root, refuse=1)
    failed = here.ended(here.start())
    assert failed.name == "Failed" and "castings/a.png: zero bytes — replace the file" in failed.message
    data = (here.root / "data.dvc").read_bytes()
    assert (here.logged(), here.versions(), here.decisions(), data) == before[:4]

    small_line.set_quality(here.root, learned=0.95, words=0.6)
    assert here.ended(here.start()).name == "Completed"
    assert here.workspace.metrics.read_bytes() == results and here.logged() == before[0]


def test_an_evaluation_of_what_is_not_there_fails_with_its_line(
    line: Callable[..., Line], worker: Worker
) -> None:
    here = line()
    here.deploy()
    worker(here.api, here.pool)
    failed = here.ended(here.start("evaluate", prompt_set="champion"))
    assert (
        failed.name == "Failed" and "no prompt set is registered yet — run flawline retrain" in failed.message
    )


def test_deploying_twice_is_deploying_once(line: Callable[..., Line], prefect_server: PrefectServer) -> None:
    here = line(cron="0 2 * * *", timezone="Europe/Berlin")
    first = here.deploy()
    assert here.deploy() == first and set(first) == {"retrain", "evaluate", "look at data"}
    with here.client() as client:
        retrain = client.read_deployment(first["retrain"])
        triggers = client.read_resource_related_automations(f"prefect.deployment.{retrain.id}")
    assert [str(s.schedule.cron) for s in retrain.schedules] == ["0 2 * * *"]
    assert retrain.global_concurrency_limit.limit == 1 and len(triggers) == 1
    shown = retrain.parameter_openapi_schema["properties"]
    assert {"root", "force", "dataset", "defect", "event_id"} == set(shown)
    assert shown["force"]["type"] == "boolean" and "up to date" in shown["force"]["description"]

    text = here.workspace.params.read_text().splitlines()
    kept = [one for one in text if not one.startswith("schedule:")]
    here.workspace.params.write_text("\n".join([*kept, f"schedule: {json.dumps({'work_pool': here.pool})}"]))
    again = here.deploy()
    with here.client() as client:
        assert client.read_deployment(again["retrain"]).schedules == []
