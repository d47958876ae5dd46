"""The files of the shared deployment: the compose file's structure, the scripts' syntax, settings without secrets."""

import os
import re
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

ROOT = Path(__file__).resolve().parent.parent
FOLDER = ROOT / "mlflow"
SCRIPTS = sorted(FOLDER.glob("*.sh"))
SECRET = re.compile(r"(PASSWORD|SECRET|AUTH_STRING|ACCESS_KEY)")


@pytest.fixture(scope="module")
def compose() -> dict[str, Any]:
    return dict(YAML(typ="safe", pure=True).load(FOLDER / "compose.yaml"))


def test_the_services_of_a_shared_deployment(compose: dict[str, Any]) -> None:
    services = compose["services"]
    assert set(services) == {"database", "storage", "mlflow", "prefect", "worker"}
    for name, service in services.items():
        image, _, pin = service["image"].partition(":")
        assert image and re.search(r"\d+\.\d+", pin), f"{name}: no pinned tag"
        for needed in service.get("depends_on", []):
            assert needed in services
        assert set(service["secrets"]) <= set(compose["secrets"])
        for mount in service.get("volumes", []):
            source = mount.split(":", 1)[0]
            assert source in compose["volumes"] or source.startswith((".", "${")), mount
            if source.startswith("./"):
                assert (FOLDER / source).is_file()
        for port in service.get("ports", []):
            assert port.startswith("127.0.0.1:"), f"{name} listens to everyone"
    assert services["storage"]["profiles"] == ["storage"], "an S3 server of one's own can take its place"
    assert services["mlflow"]["environment"]["MLFLOW_AUTH"] == "basic"


def test_its_secrets_are_files_outside(compose: dict[str, Any]) -> None:
    for secret in compose["secrets"].values():
        assert secret["file"].startswith("${FLAWLINE_SECRETS"), secret
    readable = (FOLDER / "environment.sh").read_text()
    for name, service in compose["services"].items():
        for key, value in service["environment"].items():
            if SECRET.search(key):
                assert key.endswith("_FILE") and value.startswith("/run/secrets/"), f"{name}: {key}"
                assert Path(value).name in service["secrets"], f"{name}: {key}"
                assert key.startswith("POSTGRES_") or key.removesuffix("_FILE") in readable, f"{name}: {key}"
            assert not re.search(r"//[^/@\s]*:[^/@\s]*@", str(value)), f"{name}: {key} holds a password"


def test_its_commands_are_the_scripts_here(compose: dict[str, Any]) -> None:
    for service in compose["services"].values():
        for word in service.get("command", []):
            if word.startswith("/opt/flawline/"):
                assert (ROOT / word.removeprefix("/opt/flawline/")).is_file(), word
    build = compose["services"]["mlflow"]["build"]
    dockerfile = (FOLDER / build["context"] / build["dockerfile"]).resolve()
    copied = [line.split()[1:-1] for line in dockerfile.read_text().splitlines() if line.startswith("COPY ")]
    for name in (name for line in copied for name in line):
        assert (ROOT / name).exists(), name
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    assert "server" in extras and ".[server]" in dockerfile.read_text()


def test_settings_hold_no_secret() -> None:
    keys = [
        line.partition("=")
        for line in (FOLDER / "server.env").read_text().splitlines()
        if line[:1] not in ("", "#")
    ]
    assert len(keys) > 10
    assert not [key for key, _, value in keys if SECRET.search(key) and value]


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_scripts_are_plain_shell(script: Path) -> None:
    assert subprocess.run(["sh", "-n", str(script)], capture_output=True).returncode == 0
    if script.name != "environment.sh":
        assert os.access(script, os.X_OK) and script.read_text().startswith("#!/bin/sh\n")
        assert "set -eu" in script.read_text()


@pytest.mark.parametrize(
    ("script", "environment", "told"),
    [
        ("start.sh", {"MLFLOW_AUTH": "basic"}, "needs MLFLOW_FLASK_SERVER_SECRET_KEY — make one"),
        ("start.sh", {"MLFLOW_AUTH": "yes"}, "MLFLOW_AUTH is 'yes' — it may be empty or basic"),
        (
            "prefect.sh",
            {"PGPASSWORD_FILE": "/nowhere/x"},
            "PGPASSWORD_FILE names /nowhere/x, which cannot be read",
        ),
        ("worker.sh", {}, "PREFECT_API_URL is not set — name the server"),
        ("storage.sh", {}, "the S3 server needs AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"),
        ("backup.sh", {}, "usage: mlflow/backup.sh DIR"),
        ("restore.sh", {}, "usage: mlflow/restore.sh DIR"),
    ],
)
def test_scripts_say_what_they_miss(
    script: str, environment: dict[str, str], told: str, tmp_path: Path
) -> None:
    clean = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
    done = subprocess.run(
        ["sh", str(FOLDER / script)],
        env={**clean, "FLAWLINE_WORKSPACE": str(tmp_path), **environment},
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert done.returncode == 2 and told in done.stderr
    assert done.stderr.count("\n") == 1
