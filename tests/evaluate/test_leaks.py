"""Leaks are found by content, whatever the name, and both files are named."""

import pandas as pd
import pytest

from flawline.errors import FlawlineError
from flawline.evaluate.leaks import refuse_leak
from flawline.files import write_json

MANIFEST = pd.DataFrame(
    {
        "dataset": ["a", "b", "c", "c"],
        "image": ["a/x.png", "b/other name.png", "c/t.png", "c/u.png"],
        "sha256": ["1" * 64, "1" * 64, "1" * 64, "2" * 64],
    }
)
INDEX = MANIFEST[MANIFEST["dataset"] == "c"]


def card(tmp_path, **fields):
    write_json(tmp_path / "card.json", {"train_set": "b", "train_sha256": ["1" * 64], **fields})
    return tmp_path


def test_the_training_sets_file_is_named_first(tmp_path):
    with pytest.raises(FlawlineError) as caught:
        refuse_leak(INDEX, card(tmp_path), "c", MANIFEST)
    assert "c/t.png of 'c'" in str(caught.value) and "b/other name.png has the same content" in str(
        caught.value
    )
    with pytest.raises(FlawlineError, match=r"a/x\.png has the same"):
        refuse_leak(INDEX, card(tmp_path, train_set="unknown"), "c", MANIFEST)


def test_without_a_table_or_a_twin_only_the_test_image_is_named(tmp_path):
    for manifest in (None, INDEX):
        with pytest.raises(FlawlineError) as caught:
            refuse_leak(INDEX, card(tmp_path), "c", manifest)
        assert "c/t.png of 'c' trained these prompts" in str(caught.value) and "same content" not in str(
            caught.value
        )


def test_several_are_counted(tmp_path):
    with pytest.raises(FlawlineError, match=r"c/t\.png and 1 more of 'c'"):
        refuse_leak(INDEX, card(tmp_path, train_sha256=["2" * 64, "1" * 64]), "c")


def test_others_pass_and_a_silent_card_does_not(tmp_path):
    refuse_leak(INDEX, card(tmp_path, train_sha256=["3" * 64]), "c", MANIFEST)
    refuse_leak(INDEX, card(tmp_path, train_sha256=[]), "c", MANIFEST)
    with pytest.raises(FlawlineError, match="lacks train_sha256"):
        refuse_leak(INDEX, card(tmp_path, train_sha256=None), "c", MANIFEST)
