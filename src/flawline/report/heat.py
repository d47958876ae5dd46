"""The train x target matrix as heat maps, and what each of its cells was made from."""

from dataclasses import dataclass, replace

from flawline.report.gather import Results
from flawline.report.reasons import shown
from flawline.report.tables import HEADLINE
from flawline.report.values import NAMES, Row, Value, chance, heat

MAPPED = (*HEADLINE, "image_ap", "image_f1_max", "pixel_ap", "pixel_f1_max", "aupro_200", "type_accuracy")
MOST_CELLS = 120


@dataclass(frozen=True)
class HeatMap:
    """A table of one metric: `caption` tells what it is of; in its rows the heat runs from chance to 1."""

    caption: str
    code: bool
    columns: list[str]
    rows: list[Row]


@dataclass(frozen=True)
class HeatMaps:
    """All maps of one metric; `main`: one of those to look at first."""

    metric: str
    name: str
    main: bool
    maps: list[HeatMap]


def heat_maps(results: Results) -> list[HeatMaps]:
    """For each metric that was computed anywhere: with one training set, methods down and targets across in one map;
    with several, for each method training sets down and targets across."""
    data, found = results.settings.data, []
    for metric in MAPPED:
        if not results.numbers.has(metric):
            continue
        if len(data.train) == 1:
            rows = [
                Row(data.train[0], m, _heated(results, m, data.train[0], metric)) for m in results.methods
            ]
            maps = [HeatMap(NAMES[metric], False, list(data.test), rows)]
        else:
            maps = [
                HeatMap(
                    method,
                    True,
                    list(data.test),
                    [Row(train, train, _heated(results, method, train, metric)) for train in data.train],
                )
                for method in results.methods
            ]
        found.append(HeatMaps(metric, NAMES[metric], metric in HEADLINE, maps))
    return found


def _heated(results: Results, method: str, train: str, metric: str) -> list[Value]:
    values = [shown(results, method, train, test, metric) for test in results.settings.data.test]
    return [replace(one, heat=heat(one.value, chance(metric))) for one in values]


@dataclass(frozen=True)
class Origin:
    """What a cell of the matrix was made from."""

    train: str
    test: str
    method: str
    seed: str
    images: int
    prompts: str
    features: str
    manifest: str


def origins(results: Results) -> tuple[list[Origin], int]:
    """The cells of results/matrix.csv, and how many are left out of a long table."""
    if results.matrix is None:
        return [], 0
    cells = results.matrix.drop_duplicates(["train_set", "test_set", "method", "seed"])
    found = [
        Origin(
            train=row["train_set"],
            test=row["test_set"],
            method=row["method"],
            seed=row["seed"],
            images=int(row["train_images"]),
            prompts=row["prompts_sha256"][:12],
            features=row["features_sha256"][:12],
            manifest=row["manifest_sha256"][:12],
        )
        for row in cells.to_dict("records")
    ]
    return found[:MOST_CELLS], max(0, len(found) - MOST_CELLS)
