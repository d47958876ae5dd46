import pandas as pd

from flawline.evaluate.tables import read_metrics
from flawline.report import heat as room
from flawline.report.gather import gather
from flawline.report.heat import heat_maps, origins


def change(settings, **parts):
    return settings.model_copy(update=parts)


def test_heat_runs_from_chance_to_one(results):
    maps = {one.metric: one for one in heat_maps(results)}
    for metric, low in (("image_auroc", 0.5), ("aupro", 0.0)):
        [only] = maps[metric].maps
        assert [row.name for row in only.rows] == results.methods and only.columns == ["boards", "fabrics"]
        for row in only.rows:
            for value in row.values:
                assert value.heat == round(100 * max(0, (value.value - low) / (1 - low)))


def test_the_headline_metrics_are_the_main_maps(results):
    found = heat_maps(results)
    assert [one.metric for one in found if one.main] == ["image_auroc", "pixel_auroc", "aupro"]
    assert {"image_ap", "aupro_200", "type_accuracy"} <= {one.metric for one in found if not one.main}


def test_several_training_sets_make_a_map_a_method(made):
    workspace, settings = made
    table = read_metrics(workspace.metrics)
    other = table.assign(train_set="rings", value=table["value"] / 2)
    pd.concat([table, other]).to_csv(workspace.metrics, index=False)
    data = change(settings.data, train=["castings", "rings"])
    results = gather(workspace, change(settings, data=data))
    first = heat_maps(results)[0]
    assert [one.caption for one in first.maps] == results.methods and first.maps[0].code
    for one in first.maps:
        assert [row.name for row in one.rows] == ["castings", "rings"]
        for ours, theirs in zip(one.rows[0].values, one.rows[1].values, strict=True):
            assert abs(theirs.value - ours.value / 2) < 1e-6


def test_every_cell_tells_what_it_was_made_from(results, made, monkeypatch):
    found, left_out = origins(results)
    assert len(found) == 4 * 3 * 2 and left_out == 0
    assert {(one.train, one.images, len(one.prompts)) for one in found} == {("castings", 1, 12)}
    assert len({one.prompts for one in found}) == 4 * 3 and len({one.features for one in found}) == 2
    monkeypatch.setattr(room, "MOST_CELLS", 5)
    assert [len(origins(results)[0]), origins(results)[1]] == [5, 19]
    workspace, settings = made
    (workspace.results / "matrix.csv").unlink()
    assert origins(gather(workspace, settings)) == ([], 0)
