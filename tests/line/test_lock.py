"""dvc.lock and git as identities of a result."""

import json
import subprocess
from pathlib import Path

import pytest

from flawline.errors import FlawlineError
from flawline.line.lock import data_hash, downstream_of, git_commit, lock_hash, result_id
from flawline.workspace import Workspace

TUNE = {"cmd": "tune", "deps": [{"path": "data", "md5": "a"}], "outs": [{"path": "out", "md5": "b"}]}
REPORT = {
    "cmd": "report",
    "deps": [{"path": "out", "md5": "b"}, {"path": "decisions", "md5": "c"}],
    "outs": [{"path": "reports/index.html", "md5": "d"}],
}
MAIL = {"cmd": "mail", "deps": [{"path": "reports", "md5": "e"}]}


def locked(root: Path, stages: dict[str, dict]) -> Workspace:
    (root / "dvc.lock").write_text(json.dumps({"schema": "2.0", "stages": stages}))
    return Workspace(root)


def test_the_report_and_what_follows_it_do_not_change_the_result(tmp_path: Path) -> None:
    before = result_id(locked(tmp_path, {"tune": TUNE}))
    after = result_id(locked(tmp_path, {"mail": MAIL, "report": REPORT, "tune": TUNE}))
    assert before == after
    assert downstream_of({"mail": MAIL, "report": REPORT, "tune": TUNE}, "decisions") == {"report", "mail"}


@pytest.mark.parametrize(
    "change", [{"cmd": "other"}, {"outs": [{"path": "out", "md5": "x"}]}, {"params": {"p": {"a": 1}}}]
)
def test_any_other_change_does(tmp_path: Path, change: dict) -> None:
    assert result_id(locked(tmp_path, {"tune": TUNE})) != result_id(locked(tmp_path, {"tune": TUNE | change}))


def test_stages_that_are_gone_from_dvc_yaml_do_not_count(tmp_path: Path) -> None:
    alone = result_id(locked(tmp_path, {"tune": TUNE}))
    with_old = locked(tmp_path, {"tune": TUNE, "old": TUNE | {"cmd": "old"}})
    assert result_id(with_old, {"tune"}) == alone != result_id(with_old)


def test_no_result_and_no_lock_say_so(tmp_path: Path) -> None:
    with pytest.raises(FlawlineError, match="no finished stage"):
        result_id(Workspace(tmp_path))
    assert (lock_hash(Workspace(tmp_path)), data_hash(Workspace(tmp_path))) == ("none", "none")


@pytest.mark.parametrize(
    "text", ["stages:\n  a: [", "- 1\n", "stages: 3\n", "schema: '2.0'\nstages:\n  t:\n cmd: x"]
)
def test_a_damaged_lock_is_named(tmp_path: Path, text: str) -> None:
    (tmp_path / "dvc.lock").write_text(text)
    with pytest.raises(FlawlineError, match=r"dvc\.lock"):
        result_id(Workspace(tmp_path))


def test_data_hash_is_dvcs(tmp_path: Path) -> None:
    (tmp_path / "data.dvc").write_text("outs:\n- md5: 22a1a2931c8370d3aeedd7183606fd7f.dir\n  path: data\n")
    assert data_hash(Workspace(tmp_path)) == "22a1a2931c8370d3aeedd7183606fd7f.dir"


def test_git_commit_is_dirty_for_sources_but_not_for_results(tmp_path: Path) -> None:
    assert git_commit(tmp_path) == "none"

    def git(*arguments: str) -> None:
        subprocess.run(
            ["git", "-c", "user.name=t", "-c", "user.email=t@t", *arguments], cwd=tmp_path, check=True
        )

    git("init", "-q")
    assert git_commit(tmp_path) == "none"
    for name in ("code.py", "dvc.lock", "decisions/0001-stay.json"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("1")
    git("add", ".")
    git("commit", "-qm", "first")
    clean = git_commit(tmp_path)
    assert len(clean) == 40
    (tmp_path / "dvc.lock").write_text("2")
    (tmp_path / "decisions/0001-stay.json").write_text("2")
    assert git_commit(tmp_path) == clean
    (tmp_path / "code.py").write_text("2")
    assert git_commit(tmp_path) == f"{clean}-dirty"
