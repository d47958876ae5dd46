import json
import shutil
import subprocess

import pytest

from flawline.errors import FlawlineError
from flawline.files import write_text
from flawline.report.timing import VARIABLE, Measured, publish, record, recorded, timing_script

STAGES = ["checks", "tune@human_free-castings-0", "tune@human_free-castings-1", "tune@words-castings-0"]


def told(path):
    text = path.read_text(encoding="ascii")
    assert text.startswith(f"window.{VARIABLE} = ") and text.endswith(";\n") and text.count("\n") == 1
    return json.loads(text.removeprefix(f"window.{VARIABLE} = ").removesuffix(";\n"))


def fill(workspace):
    for number, stage in enumerate(STAGES, 1):
        record(workspace, Measured(stage, 10.04 * number, None if stage == "checks" else number << 30))


def test_runs_of_a_stage_and_method_stand_together(made):
    workspace, settings = made
    fill(workspace)
    path = publish(workspace, settings, [*STAGES, "report"])
    assert path == timing_script(workspace) == workspace.root / "reports" / "timing.js"
    groups = {one["name"]: one for one in told(path)["groups"]}
    assert list(groups) == ["checks", "tune, human_free", "tune, words"]
    assert groups["checks"]["peak_bytes"] is None
    both = groups["tune, human_free"]
    assert (both["runs"], both["seconds"], both["longest"], both["peak_bytes"]) == (2, 50.2, 30.1, 3 << 30)
    assert [one["stage"] for one in told(path)["stages"]] == STAGES


def test_a_later_run_takes_the_place_and_gone_stages_are_left_out(made):
    workspace, settings = made
    fill(workspace)
    record(workspace, Measured("checks", 1.5, 7))
    assert recorded(workspace)["checks"] == Measured("checks", 1.5, 7)
    found = told(publish(workspace, settings, ["checks"]))
    assert found["stages"] == [{"stage": "checks", "seconds": 1.5, "peak_bytes": 7}]


def test_the_longest_method_name_that_fits_counts(made):
    workspace, settings = made
    tune = settings.tune.model_copy(update={"methods": ["words", "words-2"]})
    record(workspace, Measured("tune@words-2-castings-0", 1.0, 1))
    path = publish(workspace, settings.model_copy(update={"tune": tune}), ["tune@words-2-castings-0"])
    assert told(path)["groups"][0]["name"] == "tune, words-2"


def test_nothing_measured_nothing_written(made):
    workspace, settings = made
    assert publish(workspace, settings, STAGES) is None and not timing_script(workspace).exists()


def test_what_is_no_record_is_passed_over_and_what_is_broken_is_named(made):
    workspace, _ = made
    write_text(workspace.state / "timing" / "a.json", '{"stage": "a", "seconds": "long"}')
    assert recorded(workspace) == {}
    write_text(workspace.state / "timing" / "b.json", "{")
    with pytest.raises(FlawlineError, match=r"b\.json"):
        recorded(workspace)


def test_names_cannot_leave_their_string(made):
    workspace, settings = made
    name = 'tune@</script>"\u2028/../x'
    record(workspace, Measured(name, 1.0, 1))
    assert sorted(path.parent.name for path in workspace.state.rglob("*.json")) == ["timing"]
    assert told(publish(workspace, settings, [name]))["stages"][0]["stage"] == name


BROWSER = shutil.which("chromium") or shutil.which("google-chrome")


@pytest.mark.skipif(BROWSER is None, reason="no Chromium here to open the page with")
def test_a_browser_shows_the_section_only_where_the_script_is(made, tmp_path):
    from flawline.stages import report

    workspace, settings = made
    report.run(workspace, settings)

    def opened():
        command = [
            BROWSER,
            "--headless=new",
            "--no-sandbox",
            "--disable-gpu",
            f"--user-data-dir={tmp_path}/b",
        ]
        command += ["--virtual-time-budget=2000", "--dump-dom", workspace.report.as_uri()]
        return subprocess.run(command, capture_output=True, text=True, timeout=120, check=True).stdout

    assert '<section id="timing" aria-labelledby="h-timing" hidden="">' in opened()
    fill(workspace)
    publish(workspace, settings, STAGES)
    page = opened()
    assert '<section id="timing" aria-labelledby="h-timing">' in page
    assert '<th scope="row">tune, human_free</th><td class="number">2</td>' in page and "3072 MiB" in page
