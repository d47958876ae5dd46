import json

from flawline.files import write_json
from flawline.report.gather import gather
from flawline.report.reasons import absences, namers, shown


def test_a_mean_says_which_category_it_does_without(results):
    one = shown(results, "words", "castings", "boards", "aupro")
    assert one.value is not None and one.why == "without pads (no defective image has a mask)"
    assert (
        shown(results, "words", "castings", "mean", "aupro").why
        == "without boards (no defective image has a mask)"
    )
    assert shown(results, "words", "castings", "fabrics", "aupro").why == ""
    assert shown(results, "words", "castings", "boards", "image_auroc").why == ""


def test_an_absent_number_says_why(results):
    for category, defect in (("pads", "all"), ("pads", "spot")):
        one = shown(results, "words", "castings", "boards", "pixel_auroc", category, defect)
        assert one.value is None and one.text == "–" and one.why == "no defective image has a mask"


def test_methods_that_know_no_types_say_so(results):
    assert namers(results) == {"dapo"}
    one = shown(results, "words", "castings", "boards", "type_auroc")
    assert one.value is None and one.why == "this method does not tell defect types apart"
    assert shown(results, "dapo", "castings", "boards", "type_auroc").value is not None


def test_a_number_nobody_explains_was_not_computed(results):
    assert shown(results, "words", "castings", "boards", "speed").why == "it was not computed"


def test_reasons_are_listed_once_and_name_methods_only_where_they_differ(made):
    workspace, settings = made
    told = absences(gather(workspace, settings))
    assert {(one.test, one.where) for one in told} == {
        ("boards", "pads"), ("boards", "pads, scratch"), ("boards", "pads, spot"),
    }  # fmt: skip
    assert all(one.methods == [] and "mask" in one.why for one in told)
    path = next((workspace.out / "evaluation" / "words").rglob("fabrics/absent.json"))
    row = {"category": "felt", "defect": "all", "metrics": ["aupro"], "reason": "one score"}
    write_json(path, json.loads(path.read_text()) | {"absent": [row]})
    last = absences(gather(workspace, settings))[-1]
    assert (last.test, last.where, last.what, last.why) == ("fabrics", "felt", "AUPRO", "one score")
    assert last.methods == ["words"]
