"""An exact rerun of the miniature line: the same, tampered with, from a clone, and from files never committed."""

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlparse
from urllib.request import url2pathname

import pytest

import small_line
from flawline.cli.rerun import lines
from flawline.errors import FlawlineError
from flawline.files import sha256_file
from flawline.line.lock import locked_stages
from flawline.rerun import worktree
from flawline.settings import Settings, load_settings
from flawline.track.store import embedded_uri, open_store
from flawline.workspace import Workspace
from flows.rerun import Rerun, rerun
from flows.retrain import main

IGNORED = "/out/\n/reports/\n/.state/\n/.flawline/\n/data\n/.dvc/cache/\n/.dvc/tmp/\n"


def git(root: Path, *arguments: str) -> str:
    who = ("-c", "user.name=t", "-c", "user.email=t@example.org", "-c", "commit.gpgsign=false")
    done = subprocess.run(["git", *who, *arguments], cwd=root, capture_output=True, text=True, check=True)
    return done.stdout.strip()


def dvc(root: Path, *arguments: str) -> None:
    done = subprocess.run([sys.executable, "-m", "dvc", "-q", *arguments], cwd=root, capture_output=True)
    assert done.returncode == 0, done.stderr


def snapshot(root: Path) -> dict[str, str]:
    """Every file that is the workspace's own; not the state of servers, caches and git."""
    skipped = {".state", ".git", "__pycache__"}
    files = [p for p in sorted(root.rglob("*")) if p.is_file() and not skipped & {*p.relative_to(root).parts}]
    return {p.relative_to(root).as_posix(): sha256_file(p) for p in files}


@pytest.fixture(scope="module")
def line(tmp_path_factory: pytest.TempPathFactory, prefect_api: None) -> tuple[Path, str]:
    """A retrained workspace under git, with data in a DVC remote, and the id of its run."""
    root = tmp_path_factory.mktemp("origin") / "work space"
    small_line.make_workspace(root)
    described = (root / "dvc.yaml").read_text()
    (root / "dvc.yaml").write_text(described.replace("quality.json]", "quality.json, data]", 1))
    (root / "data").mkdir()
    (root / "data" / "a.bin").write_bytes(b"image")
    (root / ".gitignore").write_text(IGNORED)
    dvc(root, "add", "data")
    dvc(root, "remote", "add", "-d", "store", str(root.parent / "remote"))
    dvc(root, "push")
    git(root, "init", "-q")
    git(root, "add", "-A")
    git(root, "commit", "-q", "-m", "line")
    return root, main(root).run_id


def again(root: Path, run: str, into: Path | None = None) -> Rerun:
    return rerun(Workspace(root), settings(root), run, into)


def settings(root: Path) -> Settings:
    return load_settings(root / "params.yaml")


def test_the_same_run_gives_the_same_bytes(line: tuple[Path, str], capfd: pytest.CaptureFixture[str]) -> None:
    root, run = line
    before = snapshot(root)
    found = again(root, run[:8])
    assert found.same and found.computed and found.recorded.run_id == run
    assert found.stages == ("tune", "evaluate@boards", "evaluate@fabrics", "compare") and found.outputs == 8
    assert snapshot(root) == before
    assert not (root / ".state" / "rerun" / run).exists()
    assert git(root, "worktree", "list").count("\n") == 0
    assert "tune: ran in" in capfd.readouterr().err
    assert lines(found)[-1].startswith("the same:")


def test_from_a_fresh_clone_with_nothing_but_the_remote(
    line: tuple[Path, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root, run = line
    git(tmp_path, "clone", "-q", str(root), "clone")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", embedded_uri(Workspace(root)))
    clone = tmp_path / "clone"
    assert not (clone / "data").exists() and not (clone / ".dvc" / "cache").exists()
    found = again(clone, run, tmp_path / "again")
    assert found.same and not (tmp_path / "again").exists()
    assert not (clone / "data").exists() and not (clone / "dvc.lock").exists()


@pytest.fixture
def copied(line: tuple[Path, str], tmp_path: Path) -> Iterator[tuple[Path, str, Path]]:
    """The line with its run's kept files put back afterwards: workspace, run, folder of the run's artifacts."""
    root, run = line
    kept = artifacts(root, run)
    shutil.copytree(kept, tmp_path / "kept")
    yield root, run, kept
    shutil.rmtree(kept)
    shutil.copytree(tmp_path / "kept", kept)
    tag(root, run, sha256_file(kept / "origin" / "dvc.lock"))


def artifacts(root: Path, run: str) -> Path:
    client = open_store(Workspace(root), settings(root)).client
    return Path(url2pathname(urlparse(client.get_run(run).info.artifact_uri).path))


def tag(root: Path, run: str, sha256: str) -> None:
    open_store(Workspace(root), settings(root)).client.set_tag(run, "flawline.dvc_lock", sha256)


def test_a_tampered_record_is_told_to_the_file(copied: tuple[Path, str, Path]) -> None:
    """As another machine or a nondeterministic stage would leave it: one output and one table are not the same."""
    root, run, kept = copied
    lock = kept / "origin" / "dvc.lock"
    real = locked_stages(lock)["tune"]["outs"]
    prompts = next(out["md5"] for out in real if out["path"] == "out/prompts")
    lock.write_text(lock.read_text().replace(prompts, "0" * 32 + ".dir"))
    with pytest.raises(FlawlineError, match=r"is not the one that was logged"):
        again(root, run)
    tag(root, run, sha256_file(lock))
    table = kept / "metrics.csv"
    table.write_text(table.read_text().replace("0.", "1.", 1))
    machine = json.loads((kept / "origin" / "machine.json").read_text())
    machine["packages"]["torch"] = "1.0"
    (kept / "origin" / "machine.json").write_text(json.dumps(machine))

    found = again(root, run)
    assert found.computed and not found.same
    first, *others = found.differences
    assert (first.stage, first.kind, first.path, first.first) == ("tune", "output", "out/prompts", True)
    assert (first.recorded, first.here) == ("0" * 32 + ".dir", prompts)
    assert [(d.stage, d.kind, d.path) for d in others] == [
        ("evaluate@boards", "input", "out/prompts"),
        ("evaluate@fabrics", "input", "out/prompts"),
        ("compare", "file", "results/metrics.csv"),
    ]
    assert others[-1].here == sha256_file(root / "results" / "metrics.csv")
    told = "\n".join(lines(found))
    assert "machine:   torch: recorded 1.0, here 2" in told and "same inputs, other bytes in: tune" in told
    stays = root / ".state" / "rerun" / run
    assert (stays / "out" / "prompts").is_dir(), "a worktree with differences stays to be looked at"
    worktree.remove(Workspace(root), stays)


def test_other_sources_are_told_before_anything_runs(copied: tuple[Path, str, Path]) -> None:
    root, run, kept = copied
    lock = kept / "origin" / "dvc.lock"
    [code] = [d["md5"] for d in locked_stages(lock)["tune"]["deps"] if d["path"] == "quality.json"]
    lock.write_text(lock.read_text().replace(code, "1" * 32))
    tag(root, run, sha256_file(lock))
    found = again(root, run)
    assert not found.computed and not found.same
    assert {(d.kind, d.path, d.recorded, d.here) for d in found.differences} == {
        ("input", "quality.json", "1" * 32, code)
    }
    assert lines(found)[-1].endswith("so nothing was run")
    place = root / ".state" / "rerun" / run
    assert not (place / "out").exists()
    worktree.remove(Workspace(root), place)


def test_files_that_were_never_committed_are_part_of_the_run(line: tuple[Path, str], tmp_path: Path) -> None:
    root = tmp_path / "w"
    git(tmp_path, "clone", "-q", str(line[0]), "w")
    (root / "notes.env").write_text("PASSWORD=\n")
    git(root, "add", "notes.env")
    git(root, "commit", "-q", "-m", "notes")
    small_line.set_quality(root, learned=0.9, words=0.55)
    (root / "params.yaml").write_text(small_line.PARAMS.replace("overlays: 1", "overlays: 0") + "# mine\n")
    (root / "notes.env").write_text("PASSWORD=planted-secret\n")
    run = main(root).run_id
    kept = artifacts(root, run) / "origin"
    assert b"quality.json" in (kept / "changes.patch").read_bytes()
    for file in artifacts(root, run).rglob("*"):
        assert not file.is_file() or b"planted-secret" not in file.read_bytes(), file
    git(root, "checkout", "-q", "--", ".")
    found = again(root, run)
    assert found.same
    assert "# mine" not in (root / "params.yaml").read_text()


def test_a_commit_that_this_clone_lacks_and_a_run_that_is_none(
    line: tuple[Path, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root, run = line
    other = tmp_path / "other"
    small_line.make_workspace(other)
    git(other, "init", "-q")
    git(other, "add", "-A")
    git(other, "commit", "-q", "-m", "another history")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", embedded_uri(Workspace(root)))
    with pytest.raises(FlawlineError, match=r"^commit [0-9a-f]{40} is not in this clone — run git fetch"):
        again(other, run)
    with pytest.raises(FlawlineError, match=r"no retraining 000000 in sqlite.*the last ones: " + run):
        again(other, "000000")
    with pytest.raises(FlawlineError, match="is no run id"):
        again(other, "../../x")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "file").write_text("precious")
    with pytest.raises(FlawlineError, match="is not empty"):
        again(root, run, tmp_path / "mine")
    assert (tmp_path / "mine" / "file").read_text() == "precious"
    assert git(other, "status", "--porcelain") == ""


def test_an_older_run_that_kept_nothing(copied: tuple[Path, str, Path]) -> None:
    """Its commit is known, and the dvc.lock of its result lies in the workspace; elsewhere it is refused."""
    root, run, kept = copied
    shutil.rmtree(kept / "origin")
    found = again(root, run)
    assert found.same and found.computed and found.machines == ()
    client = open_store(Workspace(root), settings(root)).client
    commit = client.get_run(run).data.tags["mlflow.source.git.commit"]
    lock = root / "dvc.lock"
    content = lock.read_bytes()
    try:
        lock.write_bytes(content.replace(b"md5", b"md4"))
        with pytest.raises(FlawlineError, match=r"kept no dvc\.lock, and neither this workspace nor its git"):
            again(root, run)
        client.set_tag(run, "mlflow.source.git.commit", f"{commit}-dirty")
        with pytest.raises(FlawlineError, match=rf"from changes to commit {commit} that it did not keep"):
            again(root, run)
    finally:
        lock.write_bytes(content)
        client.set_tag(run, "mlflow.source.git.commit", commit)
    assert not (root / ".state" / "rerun" / run).exists(), "nothing ran, so there is nothing to look at"
