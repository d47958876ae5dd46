import json

from flawline.checks.summary import Finding, Summary

COUNTS = {"a": {"x|y": {"good_train": 8, "good_test": 5, "rust": 2}}}


def summary(*broken: tuple[str, int], severity: str = "critical") -> Summary:
    found = [
        Finding(
            name, severity, False, f"{name} holds.", tuple(f"{i:03}.png: bad" for i in range(n)), "mend it"
        )
        for name, n in broken
    ]
    return Summary((*found, Finding("fine", "critical", True, "All is fine.", ())), COUNTS)


def test_critical_findings_stop_and_warnings_do_not() -> None:
    assert not summary(("sizes", 1)).ok
    assert summary(("sizes", 1), severity="warning").ok


def test_json() -> None:
    value = json.loads(json.dumps(summary(("sizes", 2)).as_json()))
    assert value == {
        "ok": False,
        "expectations": [
            {
                "name": "sizes",
                "severity": "critical",
                "ok": False,
                "what": "sizes holds.",
                "offenders": ["000.png: bad", "001.png: bad"],
            },
            {"name": "fine", "severity": "critical", "ok": True, "what": "All is fine.", "offenders": []},
        ],
        "counts": COUNTS,
    }


def test_markdown_names_every_offender() -> None:
    text = summary(("sizes", 300)).as_markdown()
    assert all(f"* {i:03}.png: bad\n" in text for i in range(300))
    assert "failed 1 critical" in text and "mend it" in text and "* fine: All is fine." in text
    assert "| a | x\\|y | 8 | 5 | rust 2 |" in text


def test_lines_stop_at_twenty_and_count_the_rest() -> None:
    lines = summary(("sizes", 20), ("masks", 57)).as_lines("critical")
    assert lines[0] == "critical: sizes: sizes holds."
    assert lines[21] == "critical: masks: masks holds."
    assert lines[-1] == "  … and 37 more" and len(lines) == 21 + 22
    assert summary(("sizes", 1)).as_lines("warning") == []
