"""The shared deployment on real servers: logged, promoted, backed up, lost, restored; and no secret anywhere."""

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from flawline.errors import FlawlineError
from flawline.files import sha256_folder
from flawline.settings import load_settings
from flawline.track import registry
from flawline.track.store import open_store
from flawline.workspace import Workspace
from servers.postgres.conftest import Deployment
from servers.postgres.servers import ROOT, clean_environment, script
from servers.storage.conftest import empty

sys.path[:0] = [str(ROOT), str(ROOT / "tests")]
import small_line  # noqa: E402

pytestmark = pytest.mark.slow
DATABASES = "mlflow mlflow_auth prefect"


@pytest.fixture(scope="module")
def mlflow(deployment: Deployment) -> Iterator[Deployment]:
    with deployment.mlflow():
        yield deployment


@pytest.fixture(scope="module")
def prefect(deployment: Deployment) -> Iterator[Deployment]:
    with deployment.prefect():
        yield deployment


@pytest.fixture(scope="module")
def retrained(mlflow: Deployment, prefect: Deployment, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The miniature line after a retraining against both servers, in a process of its own."""
    root = tmp_path_factory.mktemp("line") / "work space"
    small_line.make_workspace(root)
    code = (
        "import sys; sys.path.insert(0, sys.argv[1])\n"
        "from pathlib import Path; from flows.retrain import main; main(Path('.'))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(ROOT)],
        cwd=root,
        env={**mlflow.client_environment, **_python()},
        capture_output=True,
        text=True,
    )
    (root / ".state" / "retrain.out").write_text(done.stdout + done.stderr)
    assert done.returncode == 0, done.stderr[-3000:]
    assert "promoted" in done.stdout
    return root


def _python() -> dict[str, str]:
    return {"PYTHONPATH": os.environ["PYTHONPATH"]} if "PYTHONPATH" in os.environ else {}


def test_a_run_is_logged_registered_and_loaded_and_a_wrong_password_refused(
    mlflow: Deployment, client: Deployment, workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = load_settings(workspace.params)
    store = open_store(workspace, settings)
    run = store.client.create_run(store.experiment_id, run_name="shared").info.run_id
    prompt_set = workspace.root / "prompt set"
    small_line.write_prompt_set(prompt_set, "learned", 0, 0.9)
    made = registry.register(workspace, settings, prompt_set, run)
    registry.set_challenger(workspace, settings, made)
    [version] = registry.versions(workspace, settings)
    assert version.aliases == ("challenger",)
    found = registry.resolve(workspace, settings, "challenger")
    assert sha256_folder(found) == sha256_folder(prompt_set)
    assert client.database.sql("select count(*) from model_versions", "mlflow") == "1"
    objects = client.weed.client().list_objects_v2(Bucket="flawline", Prefix="mlflow/")["Contents"]
    assert any(item["Key"].endswith("prompts.safetensors") for item in objects)
    store.client.delete_registered_model(settings.track.model)

    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "another-planted-secret")
    with pytest.raises(FlawlineError, match=r"cannot be used.*MLFLOW_TRACKING_USERNAME") as error:
        open_store(workspace, settings)
    assert "\n" not in str(error.value) and "planted" not in str(error.value)
    monkeypatch.delenv("MLFLOW_TRACKING_PASSWORD")
    monkeypatch.delenv("MLFLOW_TRACKING_USERNAME")
    with pytest.raises(FlawlineError, match="cannot be used"):
        open_store(workspace, settings)


def test_the_retraining_is_promoted_and_recorded_by_both_servers(retrained: Path, client: Deployment) -> None:
    settings = load_settings(retrained / "params.yaml")
    [version] = registry.versions(Workspace(retrained), settings)
    assert version.aliases == ("champion",) and version.method == "learned"
    assert not list((retrained / ".state").rglob("mlflow.db"))
    count = client.database.sql("select count(*) from flow_run where state_type = 'COMPLETED'", "prefect")
    assert int(count) >= 1
    assert int(client.database.sql("select count(*) from runs", "mlflow")) >= 7


def test_a_worker_started_by_its_script_reports_to_the_server(prefect: Deployment, tmp_path: Path) -> None:
    small_line.make_workspace(tmp_path / "w")
    environment = {
        **prefect.client_environment,
        "FLAWLINE_WORKSPACE": str(tmp_path / "w"),
        "PREFECT_HOME": str(tmp_path / "h"),
    }
    with script("worker.sh", environment, tmp_path / "worker.log", None, "--name", "one") as process:
        end, found = time.monotonic() + 90, ""
        while time.monotonic() < end and found != "one":
            assert process.poll() is None, (tmp_path / "worker.log").read_text()
            found = prefect.database.sql(
                "select name from worker where last_heartbeat_time is not null", "prefect"
            )
            time.sleep(0.5)
    assert found == "one", (tmp_path / "worker.log").read_text()


def test_no_secret_is_written_anywhere(retrained: Path, client: Deployment, tmp_path: Path) -> None:
    """Logs of the servers and of the run, every table of every database, every object of the bucket."""
    dumps = [client.database.run("pg_dump", "--inserts", database=name) for name in DATABASES.split()]
    assert all(len(dump) > 10_000 for dump in dumps)
    s3 = client.weed.client()
    keys = [
        o["Key"]
        for p in s3.get_paginator("list_objects_v2").paginate(Bucket="flawline")
        for o in p["Contents"]
    ]
    assert len(keys) > 50
    objects = {key: s3.get_object(Bucket="flawline", Key=key)["Body"].read() for key in keys}
    files = [p for folder in (retrained, client.folder / "server") for p in folder.rglob("*") if p.is_file()]
    files += [client.folder / "mlflow.log", client.folder / "prefect.log"]
    for what, secret in client.secrets.items():
        for dump in dumps:
            assert secret not in dump, what
        for name, content in objects.items():
            assert secret.encode() not in content, f"{what} in {name}"
        for file in files:
            assert secret.encode() not in file.read_bytes(), f"{what} in {file}"
    processes = subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True).stdout
    assert not [what for what, secret in client.secrets.items() if secret in processes]


def test_dumped_dropped_restored_the_champion_still_loads(
    retrained: Path, client: Deployment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings, workspace = load_settings(retrained / "params.yaml"), Workspace(retrained)
    champion = registry.by_alias(workspace, settings, registry.CHAMPION)
    assert champion is not None
    about = {
        **clean_environment(),
        **client.weed.environment,
        **_python(),
        "PGHOST": "127.0.0.1",
        "PGPORT": str(client.database.port),
        "PGUSER": "flawline",
        "PGPASSWORD_FILE": str(client.folder / "database_password"),
    }
    kept = tmp_path / "backup"
    assert "database prefect" in _script("backup.sh", about, str(kept), "s3://flawline/mlflow")
    assert {p.name for p in kept.glob("*.dump")} == {f"{name}.dump" for name in DATABASES.split()}

    for name in DATABASES.split():
        client.database.drop(name)
    s3 = client.weed.client()
    empty(s3, "flawline")
    with monkeypatch.context() as impatient, pytest.raises(FlawlineError):
        impatient.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
        registry.versions(workspace, settings)

    assert "database mlflow: restored" in _script("restore.sh", about, str(kept))
    assert registry.by_alias(workspace, settings, registry.CHAMPION) == champion
    shutil.rmtree(retrained / ".state" / "prompts")  # so that it has to come out of the bucket
    assert sha256_folder(registry.resolve(workspace, settings, "champion")) == champion.sha256
    assert int(client.database.sql("select count(*) from flow_run", "prefect")) >= 1


def _script(name: str, environment: dict[str, str], *arguments: str) -> str:
    command = ["sh", str(ROOT / "mlflow" / name), *arguments]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout
