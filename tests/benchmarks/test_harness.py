"""The results file: figures of several benchmarks side by side, sorted, and the medians that go in."""

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from benchmarks.harness import in_turn, machine, record, versions


def test_each_benchmark_keeps_its_own_figures(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "results.json"
    record("two", {"b_ratio": 2.0}, path, images=5)
    record("one", {"z_ratio": 1.23456789, "a_ratio": 7}, path, side=3)
    record("two", {"b_ratio": 4.0}, path, masks=6)
    text = path.read_text()
    known: dict[str, Any] = json.loads(text)
    assert {name: known[name] for name in known if name != "details"} == {
        "a_ratio": 7.0,
        "b_ratio": 4.0,
        "z_ratio": 1.235,
    }
    assert known["details"]["one"] == {"machine": machine(), "versions": versions(), "side": 3}
    assert known["details"]["two"]["images"] == 5 and known["details"]["two"]["masks"] == 6
    assert text == json.dumps(known, indent=2, sort_keys=True) + "\n"
    assert "z_ratio = 1.235" in capsys.readouterr().out
    assert [file.name for file in tmp_path.iterdir()] == ["results.json"]


def test_benchmarks_that_end_together_lose_nothing(tmp_path: Path) -> None:
    path = tmp_path / "results.json"
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda k: record(f"b{k}", {f"f{k}": k}, path), range(12)))
    known = json.loads(path.read_text())
    assert all(known[f"f{k}"] == k and f"b{k}" in known["details"] for k in range(12))


def test_the_median_counts_and_the_sides_take_turns() -> None:
    now, calls = [0.0], []

    def side(name: str, seconds: list[float]) -> Any:
        def run() -> None:
            calls.append(name)
            now[0] += seconds[calls.count(name) - 1]

        return run

    sides = {"slow": side("slow", [99, 4, 6, 50]), "fast": side("fast", [99, 1, 2, 3])}
    assert in_turn(sides, rounds=3, warm=1, clock=lambda: now[0]) == {"slow": 6, "fast": 2}
    assert calls == ["slow", "fast"] * 4
