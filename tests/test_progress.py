"""Progress goes to standard error, changes nothing, and stays plain where there is no terminal."""

import pytest

from flawline import progress


def test_items_pass_unchanged_and_lazily(capsys: pytest.CaptureFixture[str]) -> None:
    taken = []

    def source():
        for item in "abc":
            taken.append(item)
            yield item

    tracked = progress.track(source(), "letters")
    assert next(tracked) == "a" and taken == ["a"]
    assert list(tracked) == ["b", "c"]
    assert capsys.readouterr().out == ""


def test_short_work_is_silent_without_a_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    assert list(progress.track(range(1000), "numbers")) == list(range(1000))
    captured = capsys.readouterr()
    assert captured.out == "" and captured.err == ""


class Clock:
    """monotonic() that advances six seconds a call."""

    def __init__(self) -> None:
        self.now = 0.0

    def monotonic(self) -> float:
        self.now += 6.0
        return self.now


def test_long_work_says_a_plain_line_now_and_then(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(progress, "time", Clock())
    assert list(progress.track([1, 2, 3, 4], "features of castings")) == [1, 2, 3, 4]
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.splitlines() == [
        "features of castings: 2/4, 12 s left",
        "features of castings: 4/4, 0 s left",
    ]


def test_an_unknown_total_is_left_out(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(progress, "time", Clock())
    assert list(progress.track(iter("ab"), "x")) == ["a", "b"]
    assert capsys.readouterr().err.splitlines() == ["x: 2"]


def test_a_terminal_gets_a_bar(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    import sys

    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    assert list(progress.track([1, 2, 3], "numbers", total=3)) == [1, 2, 3]
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "numbers" in captured.err and "3/3" in captured.err


def test_an_error_in_the_work_comes_through() -> None:
    with pytest.raises(ZeroDivisionError):
        for item in progress.track([1, 0], "fractions"):
            1 / item
