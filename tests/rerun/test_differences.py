"""What differs between two dvc.lock files is told with its stage, its path and both hashes."""

import json
from pathlib import Path
from typing import Any

from flawline.rerun.differences import Difference, compare_locks, compare_tables, inside, outputs

ORDER = ("tune", "evaluate")


def entry(deps: dict[str, str], outs: dict[str, str], cmd: str = "x", **params: Any) -> dict[str, Any]:
    named = [{"path": path, "hash": "md5", "md5": md5} for path, md5 in deps.items()]
    made = [{"path": path, "hash": "md5", "md5": md5} for path, md5 in outs.items()]
    return {"cmd": cmd, "deps": named, "outs": made, "params": {"params.yaml": params}}


def line(prompts: str = "p.dir", scores: str = "s") -> dict[str, Any]:
    return {
        "tune": entry({"data": "d.dir"}, {"out/prompts": prompts}, seed=0),
        "evaluate": entry({"out/prompts": prompts}, {"out/scores": scores}),
        "report": entry({"decisions": "1"}, {"reports/index.html": "2"}),
    }


def test_equal_locks_have_no_difference() -> None:
    assert compare_locks(line(), line(), ORDER) == [] and outputs(line(), ORDER) == 2


def test_it_began_where_the_inputs_are_the_same() -> None:
    first, behind, last = compare_locks(line(), line("q.dir", "t"), ORDER)
    assert first == Difference("tune", "output", "out/prompts", "p.dir", "q.dir", first=True)
    assert behind == Difference("evaluate", "input", "out/prompts", "p.dir", "q.dir")
    assert last == Difference("evaluate", "output", "out/scores", "s", "t")
    assert "recorded p.dir, here q.dir; its inputs are the same: here it began" in str(first)
    assert "began" not in str(last)


def test_reasons_are_told_before_their_outputs() -> None:
    now = line("q.dir")
    now["tune"] |= {"cmd": "y", "params": {"params.yaml": {"seed": 1, "new": True}}}
    now["tune"]["deps"][0]["md5"] = "e.dir"
    found = [d for d in compare_locks(line(), now, ORDER) if d.stage == "tune"]
    assert [(d.kind, d.path, d.recorded, d.here, d.first) for d in found] == [
        ("command", "cmd", "x", "y", False),
        ("params", "params.yaml:new", "absent", "True", False),
        ("params", "params.yaml:seed", "0", "1", False),
        ("input", "data", "d.dir", "e.dir", False),
        ("output", "out/prompts", "p.dir", "q.dir", False),
    ]


def test_a_stage_that_only_one_has_and_stages_that_do_not_count() -> None:
    now = line()
    del now["evaluate"], now["report"]
    [found] = compare_locks(line(), now, ORDER)
    assert (found.stage, found.recorded, found.here) == ("evaluate", "present", "absent")
    assert compare_locks(line(), now, ("tune",)) == []


def test_tables_byte_for_byte(tmp_path: Path) -> None:
    before, now = tmp_path / "run", tmp_path / "results"
    for folder in (before, now):
        folder.mkdir()
        (folder / "metrics.csv").write_text("a,b\n1,2\n")
    (now / "ablation.csv").write_text("only here\n")
    entries = {"compare": entry({}, {"results/metrics.csv": "1"})}
    assert compare_tables(entries, before, now) == []
    (now / "metrics.csv").write_text("a,b\r\n1,2\n")
    [found] = compare_tables(entries, before, now)
    assert (found.stage, found.path) == ("compare", "results/metrics.csv") and len(found.recorded) == 64
    (now / "metrics.csv").unlink()
    assert compare_tables(entries, before, now)[0].here == "absent"


def test_files_inside_a_folder_where_both_caches_list_it(tmp_path: Path) -> None:
    for cache, md5, files in (
        ("old", "aa1.dir", {"x": "1", "y": "2"}),
        ("new", "bb2.dir", {"x": "1", "y": "3", "z": "4"}),
    ):
        place = tmp_path / cache / md5[:2]
        place.mkdir(parents=True)
        (place / md5[2:]).write_text(json.dumps([{"relpath": k, "md5": v} for k, v in files.items()]))
    whole = Difference("tune", "output", "out/p", "aa1.dir", "bb2.dir", True)
    found = inside(whole, tmp_path / "old", tmp_path / "new")
    assert [(d.path, d.recorded, d.here) for d in found] == [
        ("out/p/y", "2", "3"),
        ("out/p/z", "absent", "4"),
    ]
    assert inside(whole, tmp_path / "new", tmp_path / "new") == [], (
        "the recorded version is in no cache any more"
    )
