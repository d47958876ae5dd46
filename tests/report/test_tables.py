import json

from flawline.evaluate.tables import read_metrics
from flawline.files import write_json
from flawline.report.gather import gather
from flawline.report.tables import MAIN, columns, details, results_tables, tiles


def rows_of(results, **where):
    table = results.metrics
    for key, wanted in where.items():
        table = table[table[key] == wanted]
    return table


def of(results, method, test, metrics=("image_auroc",)):
    rows = results_tables(results, list(metrics))["castings"]
    [row] = [row for row in rows if (row.group, row.name) == (test, method)]
    return row.values


def test_numbers_are_those_of_the_table(results):
    [one] = of(results, "human_free", "boards")
    mine = rows_of(results, method="human_free", test_set="boards", category="mean", metric="image_auroc")
    mine = mine[mine.defect == "all"]
    mean, seeds = mine[mine.seed == "mean"].iloc[0], mine[mine.seed != "mean"]
    assert one.text == f"{mean['value']:.3f}"
    assert one.spread == f"{(seeds['value'].max() - seeds['value'].min()) / 2:.3f}"
    assert one.low == f"{seeds['ci_low'].mean():.3f}" and one.high == f"{seeds['ci_high'].mean():.3f}"


def test_the_mean_stands_first_and_the_best_method_first_in_each_group(results):
    rows = results_tables(results, ["image_auroc"])["castings"]
    assert list(dict.fromkeys(row.group for row in rows)) == ["mean", "boards", "fabrics"]
    assert [row.name for row in rows] == results.methods * 3
    means = [row.values[0].value for row in rows[:4]]
    assert means == sorted(means, reverse=True) and len(set(means)) == 4
    assert not rows[0].values[0].low and rows[0].values[0].value is not None


def test_best_is_marked_among_the_methods_of_a_test_set(results):
    for test in ("boards", "fabrics"):
        rows = [row for row in results_tables(results, list(MAIN))["castings"] if row.group == test]
        for number, metric in enumerate(MAIN):
            column = [row.values[number] for row in rows]
            best = max(one.text for one in column)
            ranked = metric in ("image_auroc", "pixel_auroc", "aupro")
            assert [one.best for one in column] == [ranked and one.text == best for one in column]


def test_main_metrics_and_the_rest_share_nothing_and_hold_all(results):
    first, more = columns(results)
    assert first == list(MAIN)
    assert {"image_ap", "pixel_f1_max", "aupro_200", "type_accuracy", "type_f1"} <= set(more)
    assert set(first) | set(more) == set(results.metrics["metric"]) and not set(first) & set(more)


def test_results_from_before_there_were_thresholds_have_no_such_columns(made):
    workspace, settings = made
    table = read_metrics(workspace.metrics)
    old = table[~table["metric"].isin(["detection_rate", "false_alarm_rate", "accuracy", "aupro_200"])]
    old = old[~old["metric"].str.startswith("type_")]
    old.to_csv(workspace.metrics, index=False)
    first, more = columns(gather(workspace, settings))
    assert first == ["image_auroc", "pixel_auroc", "aupro"]
    assert more == ["image_ap", "image_f1_max", "pixel_ap", "pixel_f1_max"]


def test_details_hold_every_category_once(results):
    boards, fabrics = details(results)
    assert boards.methods == ["human_free", "words"] and boards.metrics == list(MAIN)
    assert [row.name for row in boards.rows] == ["chips", "connectors", "pads"]
    assert [row.name for row in fabrics.rows] == ["denim", "felt"]
    assert all(len(row.values) == 2 * len(MAIN) for row in boards.rows)


def test_tiles_tell_the_lead_over_the_baseline(results):
    one = tiles(results)[0]
    mean = rows_of(results, seed="mean", test_set="mean", metric="image_auroc", category="mean", defect="all")
    mean = mean.set_index("method")["value"]
    assert one.value == f"{mean['human_free']:.3f}"
    assert one.lead == f"{mean['human_free'] - mean['words']:+.3f} against words"


def test_few_shot_methods_are_known_by_their_cards(made):
    workspace, settings = made
    assert gather(workspace, settings).shots == {"patch_memory": 4}
    for path in (workspace.out / "prompts" / "patch_memory").rglob("card.json"):
        write_json(path, json.loads(path.read_text()) | {"support": None})
    assert gather(workspace, settings).shots == {}
