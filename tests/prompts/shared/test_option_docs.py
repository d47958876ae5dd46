"""The options' documentation: complete, and the page is what the classes say."""

from pathlib import Path

import pytest

from flawline.prompts import method_class, method_names
from flawline.prompts.shared.option_docs import markdown, options_of, own_options, shared_options


@pytest.mark.parametrize("name", method_names())
def test_every_option_has_a_meaning_and_its_default(name: str) -> None:
    fields = method_class(name).Options.model_fields
    found = options_of(name)
    assert [option.key for option in found] == list(fields)
    for option in found:
        assert option.meaning and option.allowed, (
            f"{name}.{option.key}: say what it means in the class docstring"
        )
        field = fields[option.key]
        stated = field.get_default(call_default_factory=True)
        if field.is_required():
            assert option.default == "required"
        elif not isinstance(stated, bool) and stated is not None:
            assert option.default == str(stated)


def test_own_options_leave_out_what_all_share_unless_the_default_differs() -> None:
    assert {option.key for option in shared_options()} == {"image_path", "noun", "temperature", "smoothing"}
    human_free = {option.key for option in own_options("human_free")}
    assert "context_tokens" in human_free and "image_path" not in human_free
    assert "temperature" in {option.key for option in own_options("dapo")}  # 0.07 there
    assert not own_options("words")


def test_the_page_in_docs_is_up_to_date(repository: Path) -> None:
    page = (repository / "docs" / "options.md").read_text(encoding="utf-8")
    assert page == markdown(), "write it again: flawline methods --markdown > docs/options.md"
