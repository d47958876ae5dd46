"""Rules of the house that a machine can hold; docs/architecture.md says why they are there."""

import ast
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from ruamel.yaml import YAML

ROOT = Path(__file__).resolve().parent.parent
SOURCE = ROOT / "src" / "flawline"
FLOWS = ROOT / "flows"
PYTHON = sorted([*SOURCE.rglob("*.py"), *FLOWS.rglob("*.py")])
MOST_LINES = 320
SERVICES = {"mlflow", "prefect"}
# Importing these at the top of what the command line imports would cost --help its half second.
HEAVY = {
    *("torch", "pandas", "mlflow", "prefect", "great_expectations", "open_clip"),
    *("matplotlib", "sklearn", "dvc", "scipy", "skimage", "torchvision", "numpy"),
}


def named(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def imports(path: Path, top_only: bool = False) -> Iterator[tuple[str, int]]:
    """(dotted module, line) of every import; `top_only` leaves out functions and TYPE_CHECKING blocks."""
    for node in walk(ast.parse(path.read_text(encoding="utf-8")), top_only):
        if isinstance(node, ast.Import):
            yield from ((alias.name, node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            yield node.module, node.lineno


def walk(node: ast.AST, top_only: bool) -> Iterator[ast.AST]:
    for child in ast.iter_child_nodes(node):
        lazy = isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
        typing_only = isinstance(child, ast.If) and "TYPE_CHECKING" in ast.dump(child.test)
        if top_only and (lazy or typing_only):
            continue
        yield child
        yield from walk(child, top_only)


def offences(paths: list[Path], forbidden: set[str], top_only: bool = False) -> list[str]:
    return [
        f"{named(path)}:{line} imports {module}"
        for path in paths
        for module, line in imports(path, top_only)
        if module.split(".")[0] in forbidden
    ]


def below(*rooms: str) -> list[Path]:
    return [
        path for path in PYTHON if path.is_relative_to(SOURCE) and path.relative_to(SOURCE).parts[0] in rooms
    ]


def test_the_house_is_looked_at() -> None:
    assert len(PYTHON) > 10


@pytest.mark.parametrize("path", PYTHON, ids=named)
def test_rooms_are_small(path: Path) -> None:
    assert len(path.read_text(encoding="utf-8").splitlines()) <= MOST_LINES


def test_only_track_talks_to_mlflow_and_only_flows_to_prefect() -> None:
    track = below("track")
    elsewhere = [path for path in PYTHON if path.is_relative_to(SOURCE) and path not in track]
    assert offences(track, {"prefect"}) == []
    assert offences([path for path in elsewhere if path not in below("cli")], SERVICES) == []
    assert offences(below("cli"), SERVICES, top_only=True) == []


def test_stages_are_pure() -> None:
    """No registry, no network and no clock in a stage."""
    assert (
        offences(
            below("stages"), {*SERVICES, "dvc", "boto3", "requests", "urllib", "socket", "time", "datetime"}
        )
        == []
    )


def test_arrows_run_one_way() -> None:
    """What lies below never imports what lies above it."""
    above = {
        f"flawline.{room}" for room in ("cli", "stages", "report", "line", "rerun", "new_types", "track")
    }
    above.add("flows")
    low = ("data", "checks", "synth", "clip", "features", "prompts", "tune", "evaluate", "render", "serve")
    for path in below(*low, "gate", "settings"):
        for module, line in imports(path):
            upward = any(module == name or module.startswith(f"{name}.") for name in above)
            assert not upward, f"{named(path)}:{line} imports {module}"
    for path in below("line"):
        for module, line in imports(path):
            upward = module.startswith(("flawline.track", "flawline.rerun", "flawline.new_types", "flows"))
            assert not upward, f"{named(path)}:{line} imports {module}"
    for path in below("clip"):
        for module, line in imports(path):
            assert not module.startswith("flawline.prompts"), f"{named(path)}:{line}: clip/ knows no method"


def test_what_the_command_line_imports_at_the_top_is_light() -> None:
    seen: set[Path] = set()
    waiting = [SOURCE / "cli" / "app.py", SOURCE / "__init__.py", SOURCE / "__main__.py"]
    while waiting:
        path = waiting.pop()
        if path in seen:
            continue
        seen.add(path)
        for module, line in imports(path, top_only=True):
            assert module.split(".")[0] not in HEAVY, f"{named(path)}:{line} imports {module}"
            if module.startswith("flawline"):
                waiting += files_of(path, module)
    assert SOURCE / "cli" / "stage.py" in seen and SOURCE / "workspace.py" in seen


def files_of(importer: Path, module: str) -> list[Path]:
    """The files behind a flawline module; for a package also the sub-modules named from it."""
    place = SOURCE.joinpath(*module.split(".")[1:])
    if place.with_suffix(".py").is_file():
        return [place.with_suffix(".py")]
    tree = ast.parse(importer.read_text(encoding="utf-8"))
    wanted = [
        place / f"{alias.name}.py"
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and node.module == module
        for alias in node.names
    ]
    return [path for path in [place / "__init__.py", *wanted] if path.is_file()]


def test_nothing_can_run_code_from_a_file() -> None:
    """No pickle in any of its disguises: what is loaded is safetensors, JSON, CSV, Parquet or PNG."""
    modules = {"pickle", "cloudpickle", "dill", "joblib", "shelve", "marshal"}
    assert offences(PYTHON, modules) == []
    found = []
    for path in PYTHON:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not isinstance(node, ast.Call):
                continue
            called = ast.unparse(node.func)
            pickled = any(
                word.arg == "allow_pickle"
                and not (isinstance(word.value, ast.Constant) and word.value.value is False)
                for word in node.keywords
            )
            if (
                pickled
                or called in {"torch.load", "torch.save", "eval", "exec"}
                or called.endswith("read_pickle")
            ):
                found.append(f"{named(path)}:{node.lineno} calls {called}")
    assert found == []


def test_only_settings_reads_params() -> None:
    allowed = {"workspace.py", "settings/__init__.py", "cli/params.py"}
    for path in PYTHON:
        if path.is_relative_to(SOURCE) and path.relative_to(SOURCE).as_posix() in allowed:
            continue
        tree = ast.parse(path.read_text(encoding="utf-8"))
        opened = [
            node.lineno
            for node in ast.walk(tree)
            if isinstance(node, ast.Attribute)
            and node.attr in {"read_text", "open", "read_bytes"}
            and ast.unparse(node.value).endswith(".params")
        ]
        assert opened == [], f"{named(path)}: lines {opened} read params.yaml"


def test_prefect_decorators_stand_in_flows_only() -> None:
    for path in PYTHON:
        if path.is_relative_to(FLOWS):
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                decorators = {ast.unparse(item).split("(")[0] for item in node.decorator_list}
                assert not decorators & {"flow", "task"}, f"{named(path)}:{node.lineno}"


@pytest.mark.parametrize(
    "path",
    sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "mlflow").glob("*.md")]),
    ids=named,
)
def test_links_in_the_docs_lead_somewhere(path: Path) -> None:
    text = re.sub(r"```.*?```", "", path.read_text(encoding="utf-8"), flags=re.DOTALL)
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if re.match(r"[a-z]+:", target):
            continue
        file, _, anchor = target.partition("#")
        place = (path.parent / file) if file else path
        assert place.exists(), f"{named(path)} links to {target}"
        if anchor and place.suffix == ".md":
            assert anchor in anchors(place), f"{named(path)} links to {target}"


def anchors(path: Path) -> set[str]:
    """Anchors as GitHub makes them of headings."""
    headings = re.findall(r"^#+ (.+)$", path.read_text(encoding="utf-8"), flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_no_package_hides_a_library() -> None:
    """mlflow/ and flows/ stand at the top, where the working directory is on sys.path."""
    assert not (ROOT / "mlflow" / "__init__.py").exists()


def test_samples_are_never_ignored() -> None:
    for line in (ROOT / ".gitignore").read_text(encoding="utf-8").splitlines():
        assert "samples" not in line.partition("#")[0]


def test_dvc_stages_call_stage_commands() -> None:
    """Every command in dvc.yaml is `flawline stage …` with a stage that the command line knows."""
    from flawline.cli.stage import stages

    known = {
        command.name or command.callback.__name__
        for command in stages.registered_commands
        if command.callback
    }
    document = YAML(typ="safe", pure=True).load(ROOT / "dvc.yaml")
    called = {entry["cmd"].split()[2] for entry in document["stages"].values()}
    assert all(entry["cmd"].startswith("flawline stage ") for entry in document["stages"].values())
    assert called == known


def test_the_quiet_environment_is_the_same_everywhere() -> None:
    """Makefile and command line switch off the same reports home."""
    from flawline.track.environment import QUIET

    makefile = dict(
        re.findall(r"^export ([A-Z_]+) := (\S+)$", (ROOT / "Makefile").read_text(encoding="utf-8"), re.M)
    )
    shared = set(QUIET) & set(makefile)
    assert {"DO_NOT_TRACK", "MLFLOW_DISABLE_TELEMETRY", "DVC_NO_ANALYTICS"} <= shared
    assert all(makefile[name] == QUIET[name] for name in shared)


def test_every_direct_dependency_is_pinned_within_its_range() -> None:
    """pyproject.toml states ranges, constraints.txt the tested versions: they must agree."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pins = {canonicalize_name(name): version for name, _, version in (line.partition("==") for line in lines)}
    for requirement in map(Requirement, project["dependencies"]):
        version = pins.get(canonicalize_name(requirement.name))
        assert version, f"constraints.txt does not pin {requirement.name}"
        assert requirement.specifier.contains(version, prereleases=True), (
            f"{requirement}: pinned to {version}"
        )
