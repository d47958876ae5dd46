from flawline.report.gather import gather
from flawline.report.worth import ablations


def test_a_part_is_worth_what_is_lost_without_it(results):
    [one] = ablations(results)
    assert (one.method, one.train, one.target) == ("human_free", "castings", "mean")
    default, no_laa, no_mpts = one.rows
    assert default.values[0].text == "0.900" and default.values[0].difference == ""
    assert (no_laa.part, no_laa.change) == ("LAA", "features.paths.laa.radius: null")
    assert (no_laa.values[0].difference, no_laa.values[0].sure) == ("−0.050", True)
    assert (no_mpts.values[0].difference, no_mpts.values[0].sure) == ("+0.001", False)
    assert no_mpts.values[1].text == "–"


def test_an_ablation_of_other_numbers_is_called_older(made):
    workspace, settings = made
    results = gather(workspace, settings)
    assert not ablations(results)[0].outdated  # only means over seeds are there: nothing to hold against
    rows = results.metrics
    row = rows[(rows.method == "human_free") & (rows.seed == "0") & (rows.test_set == "boards")]
    row = row[(row.metric == "image_auroc") & (row.category == "mean") & (row.defect == "all")].iloc[0]
    path = workspace.ablation_tables / "human_free.csv"
    before = path.read_text()
    for value, outdated in ((row.value, False), (row.value + 0.01, True)):
        path.write_text(before + f"human_free,default,castings,boards,image_auroc,0,{value:.6f},,0,,,\n")
        assert ablations(gather(workspace, settings))[0].outdated == outdated


def test_a_method_that_params_no_longer_describes_is_left_out(made):
    workspace, settings = made
    (workspace.ablation_tables / "human_free.csv").rename(workspace.ablation_tables / "gone.csv")
    assert ablations(gather(workspace, settings)) == []
