import shutil

from flawline.report.gather import gather
from flawline.workspace import Cell


def test_methods_stand_best_first(results):
    rows = results.metrics[
        (results.metrics.metric == "image_auroc") & (results.metrics.test_set == "mean")
        & (results.metrics.seed == "mean") & (results.metrics.defect == "all")
    ]  # fmt: skip
    assert results.methods == rows.sort_values("value", ascending=False)["method"].tolist()
    assert set(results.learned) == {"human_free", "dapo"}


def test_without_decision_the_middle_seed_of_the_best_learned_method_is_shown(made):
    workspace, settings = made
    shutil.rmtree(workspace.decisions)
    results = gather(workspace, settings)
    best = results.learned[0]
    rows = results.metrics[
        (results.metrics.method == best) & (results.metrics.test_set == "mean")
        & (results.metrics.metric == "image_auroc") & (results.metrics.seed != "mean")
        & (results.metrics.defect == "all")
    ].sort_values("value")  # fmt: skip
    assert results.chosen == Cell(best, "castings", int(rows.iloc[1].seed))


def test_the_mean_over_test_sets_is_a_target_only_where_there_are_several(made):
    workspace, settings = made
    assert gather(workspace, settings).targets == ["mean", "boards", "fabrics"]
    data = settings.data.model_copy(update={"test": ["fabrics"]})
    assert gather(workspace, settings.model_copy(update={"data": data})).targets == ["fabrics"]
