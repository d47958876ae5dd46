import json
import re
import shutil
from html.parser import HTMLParser

import pytest
from PIL import Image

from flawline.errors import FlawlineError
from flawline.files import write_json, write_text
from flawline.settings import load_settings
from flawline.stages import report
from flawline.workspace import Cell

VOID = {"meta", "img", "br", "source", "link", "input", "hr"}


class Reader(HTMLParser):
    """Collects what matters and checks that every element is closed in order."""

    def __init__(self):
        super().__init__()
        self.open, self.ids, self.links, self.images, self.text, self.cells = [], set(), [], [], [], 0

    def handle_starttag(self, tag, attributes):
        given = dict(attributes)
        if tag not in VOID:
            self.open.append(tag)
        if "id" in given:
            assert given["id"] not in self.ids, f"id {given['id']} twice"
            self.ids.add(given["id"])
        if tag == "a":
            self.links.append(given["href"])
        if tag == "img":
            self.images.append(given)
        if tag == "th":
            assert given.get("scope") in {"col", "row", "colgroup", "rowgroup"}

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if not self.open or self.open[-1] != "style":
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
    assert "<script" not in html


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
    for method in ("words", "human_free"):
        row = next(
            line for line in table if line.startswith(f"{method},mean,castings,boards,mean,all,aupro,")
        )
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


def test_without_decision_the_middle_seed_of_the_best_learned_method_is_shown(made):
    from flawline.report.gather import gather

    workspace, settings = made
    shutil.rmtree(workspace.decisions)
    results = gather(workspace, settings)
    rows = results.metrics[
        (results.metrics.method == "human_free")
        & (results.metrics.test_set == "mean")
        & (results.metrics.metric == "image_auroc")
        & (results.metrics.seed != "mean")
    ].sort_values("value")
    assert results.chosen == Cell("human_free", "castings", int(rows.iloc[1].seed))
    assert results.learned == ["human_free"]


def test_optional_inputs_may_all_be_absent(made):
    workspace, settings = made
    for folder in ("out", "decisions"):
        shutil.rmtree(workspace.root / folder)
    _, reader, text = page(workspace, settings)
    assert reader.ids >= {"results", "decision", "ran", "next"}
    assert not reader.ids & {"pictures", "synthetic", "tuning", "checks", "curves"}
    assert reader.images == [] and "Demonstration only" not in text


@pytest.mark.parametrize(
    ("gone", "section"),
    [("out/synth", "synthetic"), ("out/checks", "checks"), ("out/tuning", "tuning")],
)
def test_one_optional_input_absent(made, gone, section):
    workspace, settings = made
    shutil.rmtree(workspace.root / gone)
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


def test_a_set_without_masks_shows_dashes(made):
    workspace, settings = made
    lines = workspace.metrics.read_text().splitlines()
    kept = [line for line in lines if not re.search(r",fabrics,.*,(pixel_\w+|aupro),", line)]
    write_text(workspace.metrics, "\n".join(kept) + "\n")
    html, _, _ = page(workspace, settings)
    assert html.count('aria-label="not available"') >= 2 * 4


def test_two_training_sets_and_one_test_set(made):
    workspace, settings = made
    lines = workspace.metrics.read_text().splitlines()
    moved = [line.replace(",castings,", ",rings,") for line in lines[1:]]
    write_text(workspace.metrics, "\n".join([*lines, *moved]) + "\n")
    data = change(settings.data, train=["castings", "rings"], test=["boards"])
    _, _, text = page(workspace, change(settings, data=data))
    assert "Tuned on castings" in text and "Tuned on rings" in text
    assert "mean of test sets" not in text.split("Categories and defect types")[0].split("Results")[-1]


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


def test_params_of_the_repository_render(made, repository):
    workspace, _ = made
    assert page(workspace, load_settings(repository / "params.yaml"))[1].ids >= {"results"}
