from flawline.files import read_json, write_json
from flawline.report.pictures import Budget
from flawline.report.strips import KINDS, strips
from flawline.workspace import Cell


def test_worst_cases_are_misses_or_false_alarms_by_what_the_image_truly_is(made, results):
    workspace, _ = made
    path = workspace.evaluation(Cell("human_free", "castings", 2), "boards") / "overlays" / "index.json"
    notes = read_json(path)
    [worst] = [note for note in notes if note["case"] == "worst"]
    others = [note for note in notes if note["case"] != "worst"]
    bad, good = worst | {"label": 1, "defect": "spot"}, worst | {"label": 0, "defect": "good"}
    write_json(path, [*others, bad, good])
    found = strips(workspace, results, Budget())["boards"]
    assert list(found) == list(KINDS)
    assert "spot" in found["missed"][0].caption and "good part" in found["alarm"][0].caption
