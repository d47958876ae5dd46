import pytest

from flawline.report.gather import gather
from flawline.report.tables import details, heat_maps, results_tables, tiles


@pytest.fixture
def results(made):
    return gather(*made)


def rows_of(results, **where):
    table = results.metrics
    for key, wanted in where.items():
        table = table[table[key] == wanted]
    return table


def test_numbers_are_those_of_the_table(results):
    table = results_tables(results)["castings"]
    assert [(row.group, row.name) for row in table[:3]] == [
        ("boards", "words"), ("boards", "human_free"), ("fabrics", "words"),
    ]  # fmt: skip
    one = table[1].values[0]
    mine = rows_of(results, method="human_free", test_set="boards", category="mean", metric="image_auroc")
    mean, seeds = mine[mine.seed == "mean"].iloc[0], mine[mine.seed != "mean"]
    assert one.text == f"{mean['value']:.3f}"
    assert one.spread == f"{(seeds['value'].max() - seeds['value'].min()) / 2:.3f}"
    assert one.low == f"{seeds['ci_low'].mean():.3f}" and one.high == f"{seeds['ci_high'].mean():.3f}"


def test_best_is_marked_among_the_methods_of_a_test_set(results):
    words, learned = results_tables(results)["castings"][:2]
    for one, two in zip(words.values, learned.values, strict=True):
        assert two.best == (two.value >= one.value) and one.best == (one.text == max(one.text, two.text))


def test_the_mean_over_test_sets_has_no_interval(results):
    last = results_tables(results)["castings"][-1]
    assert last.group == "mean" and not last.values[0].low and last.values[0].value is not None


def test_heat_runs_from_chance_to_one(results):
    maps = {one.metric: one for one in heat_maps(results)}
    for metric, low in (("image_auroc", 0.5), ("aupro", 0.0)):
        for row in maps[metric].rows:
            for value in row.values:
                assert value.heat == round(100 * max(0, (value.value - low) / (1 - low)))


def test_details_hold_every_category_and_type_once(results):
    boards = details(results)[0]
    assert boards.methods == ["human_free", "words"]
    places = [(row.group, row.name) for row in boards.rows]
    assert len(set(places)) == len(places) == 3 * 3
    assert places[:3] == [("chips", "all"), ("chips", "scratch"), ("chips", "spot")]
    assert all(len(row.values) == 6 for row in boards.rows)


def test_tiles_tell_the_lead_over_the_baseline(results):
    one = tiles(results)[0]
    mean = rows_of(results, seed="mean", test_set="mean", metric="image_auroc", category="mean")
    mean = mean.set_index("method")["value"]
    assert one.value == f"{mean['human_free']:.3f}"
    assert one.lead == f"{mean['human_free'] - mean['words']:+.3f} against words"
