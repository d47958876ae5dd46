import base64
import hashlib
import json
import re
import shutil
from html.parser import HTMLParser

import pytest
from PIL import Image

from flawline.errors import FlawlineError
from flawline.files import write_json, write_text
from flawline.report.curves import pro_plots, roc_plots
from flawline.report.gather import gather
from flawline.report.pictures import Budget
from flawline.report.strips import strips
from flawline.stages import report
from flawline.workspace import Cell

SCRIPTS = {"script", "style"}
VOID = {"meta", "img", "br", "source", "link", "input", "hr"}


class Reader(HTMLParser):
    """Collects what matters and checks that every element is closed in order."""

    def __init__(self):
        super().__init__()
        self.open, self.ids, self.links, self.images, self.text = [], set(), [], [], []
        self.hidden = set()

    def handle_starttag(self, tag, attributes):
        given = dict(attributes)
        if tag not in VOID:
            self.open.append(tag)
        if "id" in given:
            assert given["id"] not in self.ids, f"id {given['id']} twice"
            self.ids.add(given["id"])
        if "hidden" in given:
            self.hidden.add(given["id"])
        if tag == "a":
            self.links.append(given["href"])
        if tag == "img":
            self.images.append(given)
        if tag == "th":
            assert given.get("scope") in {"col", "row", "colgroup", "rowgroup"}

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if not self.open or self.open[-1] not in SCRIPTS:
            self.text.append(data)


def page(workspace, settings):
    report.run(workspace, settings)
    html = workspace.report.read_text(encoding="utf-8")
    reader = Reader()
    reader.feed(html)
    reader.close()
    assert not reader.open
    return html, reader, " ".join(" ".join(reader.text).split())


def change(settings, **parts):
    return settings.model_copy(update=parts)


def test_one_well_formed_page_without_network(made):
    html, reader, _ = page(*made)
    assert len(html) < 6_000_000
    assert not re.search(r"https?://|//[a-z]+\.|@import|url\(", html)
    assert all(image["src"].startswith("data:image/") and image["alt"] for image in reader.images)
    assert {link.removeprefix("#") for link in reader.links} <= reader.ids
    assert html.count("<script") == 2 and '<script src="timing.js"></script>' in html


def test_the_page_lets_only_its_own_script_and_the_one_beside_it_run(made):
    html, _, _ = page(*made)
    policy = re.search(r'Content-Security-Policy" content="([^"]+)"', html).group(1)
    script = re.search(r"<script>(.+?)</script>", html, re.DOTALL).group(1)
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert f"script-src 'self' 'sha256-{digest}'" in policy and policy.startswith("default-src 'none'")
    assert "innerHTML" not in script and "eval" not in script


def test_the_same_bytes_again(made, real_plots):
    workspace, settings = made
    report.run(workspace, settings)
    first = workspace.report.read_bytes()
    report.run(workspace, settings)
    assert workspace.report.read_bytes() == first
    # Nothing of the place where it ran is on the page.
    assert str(workspace.root).encode() not in first


def test_it_says_what_came_out(made):
    workspace, settings = made
    _, _, text = page(workspace, settings)
    table = workspace.metrics.read_text().splitlines()
    for method in ("words", "human_free", "patch_memory"):
        start = f"{method},mean,castings,boards,mean,all,aupro,"
        row = next(line for line in table if line.startswith(start))
        assert f"{float(row.split(',')[7]):.3f}" in text
    assert "Demonstration only" in text
    assert "housings" in text and "scratch 12, spot 12" in text
    assert "mean of test sets" in text


def test_names_from_data_are_escaped(made):
    html, _, text = page(*made)
    assert "&lt;script&gt;" in html and "<script>" in text


def test_the_newest_decision_stands_first(made):
    workspace, settings = made
    _, _, text = page(workspace, settings)
    assert text.index("Decision 2, the newest.") < text.index("Decision 1: promoted")
    assert "earlier results" not in text
    metrics = workspace.metrics.read_text().replace("0.", "0.0", 1)
    write_text(workspace.metrics, metrics)
    assert "It was taken on earlier results" in page(workspace, settings)[2]


def test_numbers_of_decisions_sort_as_numbers(made):
    workspace, settings = made
    record = json.loads((workspace.decisions / "0001-promote.json").read_text())
    write_json(workspace.decisions / "10000-rollback.json", {**record, "verdict": "rollback", "tests": []})
    _, _, text = page(workspace, settings)
    assert "Decision 10000, the newest." in text and "rollback" in text


def test_no_decision_yet(made):
    workspace, settings = made
    shutil.rmtree(workspace.decisions)
    assert "No decision yet" in page(workspace, settings)[2]


def test_the_shown_prompts_are_the_challengers(made):
    workspace, settings = made
    assert "tuned on castings, seed 2" in page(workspace, settings)[2]


def test_optional_inputs_may_all_be_absent(made):
    workspace, settings = made
    for folder in ("out", "decisions", "results/ablations"):
        shutil.rmtree(workspace.root / folder)
    for name in ("tests.csv", "matrix.csv"):
        (workspace.results / name).unlink()
    _, reader, text = page(workspace, settings)
    assert reader.ids >= {"results", "decision", "ran", "next"}
    assert not reader.ids & {"pictures", "synthetic", "tuning", "checks", "curves", "tests", "ablations"}
    assert reader.images == [] and "Demonstration only" not in text


@pytest.mark.parametrize(
    ("gone", "section"),
    [
        ("out/synth", "synthetic"),
        ("out/checks", "checks"),
        ("out/tuning", "tuning"),
        ("results/ablations", "ablations"),
        ("results/tests.csv", "tests"),
    ],
)
def test_one_optional_input_absent(made, gone, section):
    workspace, settings = made
    path = workspace.root / gone
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    _, reader, _ = page(workspace, settings)
    assert section not in reader.ids and "pictures" in reader.ids


def test_another_backbone_is_no_demonstration(made):
    workspace, settings = made
    for path in workspace.out.rglob("prompts/**/card.json"):
        card = json.loads(path.read_text())
        card["backbone"]["name"] = "ViT-L-14-336-quickgelu"
        write_json(path, card)
    _, _, text = page(workspace, settings)
    assert "Demonstration only" not in text and "ViT-L-14-336-quickgelu" in text


def test_an_absent_number_is_a_dash_that_says_why(made):
    workspace, settings = made
    html, _, text = page(workspace, settings)
    assert 'title="no defective image has a mask">–<' in html
    assert 'title="this method does not tell defect types apart">–<' in html
    assert 'title="without pads (no defective image has a mask)">*<' in html
    assert re.search(r"boards, pads: [^:]*AUPRO[^:]*: no defective image has a mask", text)


def test_what_issue_four_asks_for_is_there(made):
    _, reader, text = page(*made)
    assert {"results", "matrix", "tests", "types", "curves", "pictures", "ablations", "timing"} <= reader.ids
    for words in (
        "against the best other method", "p corrected for 2 test sets (Holm)", "New types", "not reported",
        "Defective images with the lowest scores", "Good images with the highest scores", "4-shot",
        "What each cell was made from", "Shade: from the lowest to the highest of the 3 seeds",
    ):  # fmt: skip
        assert words in text, words
    assert reader.hidden == {"timing", "nav-timing"}


def test_two_training_sets_and_one_test_set(made):
    workspace, settings = made
    lines = workspace.metrics.read_text().splitlines()
    moved = [line.replace(",castings,", ",rings,") for line in lines[1:]]
    write_text(workspace.metrics, "\n".join([*lines, *moved]) + "\n")
    data = change(settings.data, train=["castings", "rings"], test=["boards"])
    _, _, text = page(workspace, change(settings, data=data))
    assert "Tuned on castings" in text and "Tuned on rings" in text
    assert "mean of test sets" not in text.split("more metrics")[0].split("Results", 2)[-1]


def test_too_many_pictures_stay_out(made):
    workspace, settings = made
    folder = workspace.evaluation(Cell("human_free", "castings", 2), "boards") / "overlays"
    notes = json.loads((folder / "index.json").read_text())
    many = [{**notes[0], "file": f"best-{number}.png"} for number in range(60)]
    noise = Image.effect_noise((700, 230), 120).convert("RGB")
    noise.save(folder / "noise.png", compress_level=1)
    for note in many:
        shutil.copyfile(folder / "noise.png", folder / note["file"])
    write_json(folder / "index.json", many)
    html, _, text = page(workspace, settings)
    assert len(html) < 6_000_000
    assert re.search(r"\d+ more in out/evaluation", text)


def test_finds_and_mistakes_come_before_training_curves(made, monkeypatch):
    workspace, settings = made
    results = gather(workspace, settings)
    curves = sum(one.size for one in [*roc_plots(results), *pro_plots(results)])
    shown = strips(workspace, results, Budget())
    strip = sum(len(one.source) for kinds in shown.values() for ones in kinds.values() for one in ones)
    monkeypatch.setattr("flawline.report.page.Budget", lambda: Budget(left=curves + strip + 1000))
    _, reader, text = page(workspace, settings)
    assert len([one for one in reader.images if "anomaly map" in one["alt"]]) == 2 * 3
    assert "synthetic" not in reader.ids and "more in out/evaluation" not in text


def test_missing_results_are_named(made):
    workspace, settings = made
    workspace.metrics.unlink()
    with pytest.raises(FlawlineError, match=r"metrics\.csv is missing"):
        report.run(workspace, settings)
    assert not workspace.report.exists()


@pytest.mark.parametrize(
    ("path", "content", "message"),
    [
        ("out/checks/summary.json", "{", "summary.json"),
        ("out/tuning/human_free/castings/2/curves.csv", "a,b\n1,2\n", "curves.csv"),
        ("out/tuning/human_free/castings/2/tokens.json", '{"x": [["a"]]}', "tokens.json"),
        ("out/synth/castings/contact_sheet.png", "text", "contact_sheet.png"),
        ("decisions/0003-stay.json", "[]", "0003-stay.json"),
        ("results/tests.csv", "method\nwords\n", "tests.csv"),
        ("results/matrix.csv", "", "matrix.csv"),
        ("results/ablations/human_free.csv", "variant\n", "human_free.csv"),
        ("out/evaluation/dapo/castings/0/boards/confusion.csv", "a\n1\n", "confusion.csv"),
        ("out/evaluation/dapo/castings/0/boards/absent.json", '{"absent": [1]}', "absent.json"),
    ],
)
def test_a_broken_input_is_named(made, path, content, message):
    workspace, settings = made
    write_text(workspace.root / path, content)
    with pytest.raises(FlawlineError, match=re.escape(message)):
        report.run(workspace, settings)


def test_no_methods_learned(made):
    workspace, settings = made
    only = change(settings, tune=change(settings.tune, methods=["words"]))
    shutil.rmtree(workspace.decisions)
    _, _, text = page(workspace, only)
    assert "words was tuned on castings" in text and "against words" not in text
