import shutil
from pathlib import Path

import pytest

from flawline.data import versioning
from flawline.data.versioning import pull, track_data
from flawline.errors import FlawlineError
from flawline.workspace import Workspace

from .trees import category, picture


@pytest.fixture
def versioned(workspace: Workspace) -> Workspace:
    """A workspace under DVC without git, with a remote beside it and one data set that is not yet tracked."""
    from dvc.repo import Repo

    with Repo.init(str(workspace.root), no_scm=True) as repo, repo.config.edit() as config:
        config["core"]["remote"] = "beside"
        config["remote"]["beside"] = {"url": str(workspace.root.parent / "remote")}
    category(workspace.data / "castings" / "gear", train=2, test=1)
    return workspace


def push(workspace: Workspace) -> None:
    from dvc.repo import Repo

    with Repo(str(workspace.root)) as repo:
        repo.push()


def pictures(workspace: Workspace) -> list[Path]:
    return sorted(workspace.data.rglob("*.png"))


def test_track_writes_the_pointer_once(versioned: Workspace, capfd: pytest.CaptureFixture[str]) -> None:
    assert track_data(versioned)
    first = (versioned.root / "data.dvc").read_bytes()
    assert not track_data(versioned)
    assert (versioned.root / "data.dvc").read_bytes() == first
    picture(versioned.data / "castings" / "gear" / "train" / "good" / "new.png")
    assert track_data(versioned)
    assert "".join(capfd.readouterr()) == ""


def test_track_leaves_out_what_a_kill_left(versioned: Workspace) -> None:
    track_data(versioned)
    first = (versioned.root / "data.dvc").read_bytes()
    picture(versioned.data / ".castings.999999999.partial" / "0.png")
    assert not track_data(versioned)
    assert (versioned.root / "data.dvc").read_bytes() == first


def test_pull_fills_what_is_absent(versioned: Workspace, capfd: pytest.CaptureFixture[str]) -> None:
    track_data(versioned)
    push(versioned)
    capfd.readouterr()
    assert pull(versioned) == {"data.dvc": "present", "backbones.dvc": "untracked"}
    before = {path: path.read_bytes() for path in pictures(versioned)}
    shutil.rmtree(versioned.data)
    shutil.rmtree(versioned.root / ".dvc" / "cache")  # a fresh clone has neither
    assert pull(versioned)["data.dvc"] == "pulled"
    assert {path: path.read_bytes() for path in pictures(versioned)} == before
    pictures(versioned)[0].unlink()
    assert pull(versioned)["data.dvc"] == "pulled"
    assert {path: path.read_bytes() for path in pictures(versioned)} == before
    assert "".join(capfd.readouterr()) == ""


def test_pull_needs_no_remote_where_nothing_is_missing(versioned: Workspace) -> None:
    track_data(versioned)
    shutil.rmtree(versioned.root / ".dvc" / "cache")
    assert pull(versioned)["data.dvc"] == "present"


def test_pull_never_overwrites_unsaved_work(versioned: Workspace) -> None:
    track_data(versioned)
    push(versioned)
    mine = pictures(versioned)[0]
    mine.write_bytes(b"mine")
    added = picture(versioned.data / "castings" / "gear" / "train" / "good" / "new.png")
    assert pull(versioned)["data.dvc"] == "kept"
    assert mine.read_bytes() == b"mine" and added.is_file()


def test_remote_without_the_files(versioned: Workspace) -> None:
    track_data(versioned)
    shutil.rmtree(versioned.data)
    shutil.rmtree(versioned.root / ".dvc" / "cache")
    with pytest.raises(FlawlineError, match=r"data\.dvc: the DVC remote does not have its files") as error:
        pull(versioned)
    assert "\n" not in str(error.value)


def test_no_dvc_and_no_data(workspace: Workspace) -> None:
    with pytest.raises(FlawlineError, match="data is missing"):
        track_data(workspace)
    workspace.data.mkdir()
    for call in (track_data, pull):
        with pytest.raises(FlawlineError, match=r"is no DVC repository.*dvc init"):
            call(workspace)


def test_a_lock_is_waited_for(versioned: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    from dvc.lock import LockError
    from dvc.repo import Repo

    waits: list[float] = []
    monkeypatch.setattr(versioning.time, "sleep", waits.append)
    real, calls = Repo.add, []

    def busy_twice(self: Repo, *args: object, **kwargs: object) -> object:
        calls.append(args)
        if len(calls) <= 2:
            raise LockError("busy")
        return real(self, *args, **kwargs)

    monkeypatch.setattr(Repo, "add", busy_twice)
    assert track_data(versioned)
    assert len(calls) == 3 and waits[0] < waits[1]


def test_a_lock_that_stays_is_told(versioned: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    from dvc.lock import LockError
    from dvc.repo import Repo

    def busy(self: Repo, *args: object, **kwargs: object) -> object:
        raise LockError("busy")

    monkeypatch.setattr(versioning.time, "sleep", lambda seconds: None)
    monkeypatch.setattr(Repo, "add", busy)
    with pytest.raises(FlawlineError, match="another DVC command holds the lock"):
        track_data(versioned)
