"""What passes through a method."""

from flawline.prompts.shared.batches import rows_by


def test_rows_by_sorts_the_keys_and_keeps_the_order() -> None:
    found = rows_by(["b", "a", "b"])
    assert list(found) == ["a", "b"] and found["b"].tolist() == [0, 2]
