"""docs/reproducing.md: its commands are ones that flawline takes, and what it says of the reader is so."""

import re
import shlex
import shutil
import subprocess
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from flawline.cli.app import run
from flawline.cli.params import set_params
from flawline.importers import run as importer
from flawline.importers.structure import _KNOWN, MOST_BYTES
from flawline.settings import load_settings
from flawline.workspace import Workspace

SHELL = r"""flawline() { printf '%s\0' "$@"; printf '\0'; }"""  # says what it was asked


def blocks(repository: Path, language: str) -> list[str]:
    text = (repository / "docs" / "reproducing.md").read_text(encoding="utf-8")
    return re.findall(rf"```{language}\n(.*?)```", text, flags=re.DOTALL)


@pytest.fixture(scope="module")
def retrainings(repository: Path) -> list[list[str]]:
    """The --set assignments of every `flawline retrain`, as the shell gives them, loops and arrays unrolled."""
    bash = shutil.which("bash")
    if bash is None:
        pytest.skip("the commands are written for bash")
    script = "\n".join([SHELL, *blocks(repository, "bash")])
    told = subprocess.run([bash, "-euc", script], capture_output=True, text=True, check=True).stdout
    calls = [call.split("\0") for call in told.split("\0\0")[:-1]]
    assert all(call[0] == "retrain" and set(call[1::2]) == {"--set"} for call in calls)
    return [call[2::2] for call in calls]


def test_every_retraining_is_a_valid_params_file(
    retrainings: list[list[str]], repository: Path, tmp_path: Path
) -> None:
    seen = set()
    for number, assignments in enumerate(retrainings):
        params = tmp_path / f"params-{number}.yaml"
        shutil.copyfile(repository / "params.yaml", params)
        assert set_params(params, assignments)
        settings = load_settings(params)
        learned = next(name for name in settings.tune.methods if name != "words")
        trained = {name.removesuffix("-aux") for name in settings.data.train}
        assert not trained & set(settings.data.test)
        if settings.methods[learned].get("supervision") == "real":
            assert settings.features.real
        seen.add((learned, *settings.data.test, settings.methods[learned].get("shots")))
    assert seen >= {("anomalyclip", "mvtec", None), ("faprompt", "visa", None), ("dapo", "visa", None)}
    assert seen >= {(name, "mvtec", "visa", shots) for name in ("promptad", "winclip") for shots in (1, 2, 4)}


def test_the_paths_of_a_retraining_are_those_of_an_import(
    retrainings: list[list[str]], repository: Path, tmp_path: Path
) -> None:
    """Or an imported set would find no features: paths are compared by what they read."""
    from flawline.clip.image_path import resolve_path
    from flawline.importers.imported import dual_path
    from flawline.importers.promptad import _OVERWRITTEN
    from flawline.settings import ImagePath

    params = tmp_path / "params.yaml"
    shutil.copyfile(repository / "params.yaml", params)
    for name, assignments in (("l14", retrainings[0]), ("b16", retrainings[-1])):
        set_params(params, assignments)
        paths = load_settings(params).features.paths
        depth = {"l14": 24, "b16": 12}[name]
        found = [resolve_path(key, path, depth, name) for key, path in paths.items()]
        if name == "l14":
            tower: Any = SimpleNamespace(vision_layers=depth)
            assert resolve_path("vv", dual_path(tower), depth, name) in found
        else:
            for block in _OVERWRITTEN.values():
                assert ImagePath(attention="qk", first_block=block, levels=[block], space="tower") in found


def test_the_import_is_a_command(
    repository: Path, workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[tuple[Any, ...]] = []
    monkeypatch.setenv("FLAWLINE_WORKSPACE", str(workspace.root))
    monkeypatch.setattr(importer, "run", lambda *given: calls.append(given))
    lines = "\n".join(blocks(repository, "sh")).replace("\\\n", " ").splitlines()
    commands = [shlex.split(line) for line in lines if line.startswith("flawline import ")]
    assert commands and all(run(command[1:]) == 0 for command in commands)
    assert calls[0][0] == "anomalyclip" and calls[0][6] == ("mvtec", [])


def test_what_is_said_of_the_reader_is_so(repository: Path) -> None:
    text = " ".join((repository / "docs" / "reproducing.md").read_text(encoding="utf-8").split())
    assert f"accepts {len(_KNOWN)} names" in text and MOST_BYTES == 2**20 and "more than 1 MiB" in text
    assert all(f"| {method} | `" in text for method in importer.IMPORTERS)
