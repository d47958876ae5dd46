"""The same retraining on a Dask cluster of two worker processes: really started, with the same bytes at the end."""

from pathlib import Path

import pytest

import small_line
from flawline.errors import FlawlineError
from flawline.files import sha256_file
from flows.retrain import main

pytestmark = pytest.mark.usefixtures("prefect_api")
pytest.importorskip("prefect_dask")  # in the extra `test`, so it is there


def line(root: Path, run: str) -> Path:
    """The miniature line with `run:` of its own."""
    small_line.make_workspace(root)
    (root / "params.yaml").write_text((root / "params.yaml").read_text() + f"run: {run}\n")
    return root


@pytest.mark.slow
def test_two_worker_processes_give_the_same_bytes(tmp_path: Path) -> None:
    here, there = line(tmp_path / "here", "{workers: 1}"), line(tmp_path / "there", "{dask: 'local:2'}")
    outcomes = [main(here), main(there)]
    assert outcomes[1].stages == outcomes[0].stages and len(outcomes[1].ran) == 5
    assert outcomes[1].result_id == outcomes[0].result_id
    for name in ("results/metrics.csv", "dvc.lock", "reports/index.html", "decisions/0001-promote.json"):
        assert sha256_file(there / name) == sha256_file(here / name), name


def test_a_scheduler_that_is_not_there_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import dask

    root = line(tmp_path / "w", "{dask: 'tcp://127.0.0.1:9'}")
    with (
        dask.config.set({"distributed.comm.timeouts.connect": "1s"}),
        pytest.raises(FlawlineError, match=r"scheduler tcp://127\.0\.0\.1:9 cannot be reached") as caught,
    ):
        main(root)
    assert "\n" not in str(caught.value) and not (root / "out").exists()


def test_a_missing_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "prefect_dask", None)
    with pytest.raises(FlawlineError, match=r"run\.dask is local:2, but prefect_dask is not installed"):
        main(line(tmp_path / "w", "{dask: 'local:2'}"))


def test_a_refusal_on_a_worker_is_its_own_line(tmp_path: Path) -> None:
    root = line(tmp_path / "w", "{dask: 'local:1'}")
    small_line.set_quality(root, refuse=1)
    with pytest.raises(FlawlineError, match=r"^castings/a\.png: zero bytes — replace the file$"):
        main(root)
