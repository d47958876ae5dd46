"""The tests of a decision as the page shows them."""

from dataclasses import asdict

from flawline.gate.claim import Claim
from flawline.report.judged import judged_rows
from flawline.report.page import render

NUMBERS = {"champion": 0.8, "challenger": 0.75, "difference": -0.05, "ci_low": -0.12, "ci_high": 0.02}


def test_what_decides_comes_before_what_is_told() -> None:
    told = Claim(
        "boards", "image_auroc", **NUMBERS, passed=False, claim="better", bound=0.0, decides=False, p_holm=0.2
    )
    cost = Claim("mean", "operations", 1.5e9, 3e9, 1.5e9, 1.5e9, 1.5e9, True, "cost", 2.0)
    kind = Claim("boards", "image_auroc", **NUMBERS, passed=False, claim="not worse", bound=0.1, defect="hole",
                 n_normal=48, n_anomalous=21)  # fmt: skip
    rows = judged_rows({"margin": 0.05, "tests": [asdict(told), asdict(cost), asdict(kind)]})
    assert [row.decides for row in rows] == [True, True, False]
    assert (rows[0].challenger, rows[0].difference, rows[0].low) == ("3000 million", "2.00 times", "")
    assert rows[1].claim == "boards, hole: image AUROC is not worse by 0.1" and rows[1].images == "48 + 21"
    assert (rows[1].difference, rows[1].low, rows[1].high) == ("−0.050", "−0.120", "+0.020")
    assert rows[2].claim == "boards: image AUROC is better" and rows[2].p == "0.200"


def test_an_older_decision_is_shown_as_well() -> None:
    [row] = judged_rows(
        {"margin": 0.02, "tests": [{"test_set": "mean", "metric": "image_auroc", **NUMBERS, "passed": False}]}
    )
    assert row.claim == "mean of the test sets: image AUROC is better" and row.images == "" and row.p == ""
    assert judged_rows({"tests": []}) == [] == judged_rows({})


def test_the_page_shows_new_types_and_tests(made) -> None:  # type: ignore[no-untyped-def]
    import json

    workspace, settings = made
    path = workspace.decisions / "0002-stay.json"
    record = json.loads(path.read_text())
    claim = Claim("boards", "image_auroc", **NUMBERS, passed=False, claim="not worse", bound=0.1, defect="<b>hole",
                  n_normal=48, n_anomalous=21)  # fmt: skip
    record |= {"tests": [asdict(claim)], "new_types": [["boards", "<b>hole"]]}
    path.write_text(json.dumps(record))
    page = render(workspace, settings)
    assert "New to the champion" in page and "&lt;b&gt;hole" in page and "<b>hole" not in page
    assert "image AUROC is not worse by 0.1" in page and "48 + 21" in page
    assert "flawline history 2 --check" in page
