"""Types that a champion had never known, before and after."""

from typing import Any

from flawline.files import sha256_file, write_json
from flawline.report.arrivals import AFTER, arrivals
from flawline.report.gather import gather
from flawline.report.page import render
from flawline.settings import Settings
from flawline.workspace import Workspace


def decide(workspace: Workspace, number: int, verdict: str = "promote", **more: Any) -> None:
    """A decision as the gate writes it, about the type `spot` of boards."""

    def side(version: int, seed: int) -> dict[str, Any]:
        sha256 = f"{version}" * 64
        return {
            "version": version,
            "method": "human_free",
            "train_set": "castings",
            "seed": seed,
            "sha256": sha256,
        }

    def claim(defect: str, claimed: str) -> dict[str, Any]:
        numbers = {"champion": 0.61, "challenger": 0.83, "difference": 0.22, "ci_low": 0.11, "ci_high": 0.31}
        counts = {"n_normal": 12, "n_anomalous": 8}
        place = {"test_set": "boards", "metric": "image_auroc", "defect": defect, "claim": claimed}
        return {**place, **numbers, **counts, "passed": True, "bound": 0.05, "decides": True}

    tests = [claim("all", "not worse"), claim("spot", "not worse"), claim("spot", "better")]
    record = {"champion": side(1, 0), "challenger": side(2, 1), "against": "champion", "tests": tests}
    record |= {"verdict": verdict, "reason": "better on the new type", "margin": 0.05, "confidence": 0.95}
    record |= {"results": sha256_file(workspace.metrics), "new_types": [["boards", "spot"]], **more}
    write_json(workspace.decisions / f"{number:04d}-{verdict}.json", record)


def test_without_a_new_type_nothing_is_shown(made: tuple[Workspace, Settings]) -> None:
    assert arrivals(gather(*made)) is None
    assert 'id="arrivals"' not in render(*made)


def test_both_sides_of_the_newest_decision_about_a_new_type(made: tuple[Workspace, Settings]) -> None:
    workspace, _ = made
    decide(workspace, 3)
    decide(workspace, 4, new_types=[])
    found = arrivals(gather(*made))
    assert found is not None and (found.number, found.promoted, found.current) == (3, True, True)
    [row] = found.rows
    assert (row.test, row.defect, row.before, row.after, row.images) == (
        "boards",
        "spot",
        "0.610",
        "0.830",
        8,
    )
    assert (row.difference, row.low, row.high) == ("+0.220", "+0.110", "+0.310")
    by = dict(zip(AFTER, row.now, strict=True))
    assert by["detection_rate"].value is not None and by["type_accuracy"].value is not None
    page = render(*made)
    assert 'href="#arrivals"' in page and "which serves since" in page and "0.830" in page


def test_an_older_decision_shows_no_numbers_of_these_results(made: tuple[Workspace, Settings]) -> None:
    decide(made[0], 3, verdict="stay", results="0" * 64)
    found = arrivals(gather(*made))
    assert found is not None and not found.current and not found.promoted and found.rows[0].now == []
    page = render(*made)
    assert "which was not promoted" in page and "earlier results than those" in page


def test_a_type_that_no_test_is_about_is_left_out(made: tuple[Workspace, Settings]) -> None:
    decide(made[0], 3, new_types=[["fabrics", "spot"]])
    assert arrivals(gather(*made)) is None
