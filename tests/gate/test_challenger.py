"""Which prompt set goes before the gate."""

import pandas as pd

from flawline.gate.challenger import choose_challenger
from flawline.workspace import Cell


def metrics(values: dict[tuple[str, int, str], float]) -> pd.DataFrame:
    rows = []
    for (method, seed, test), value in values.items():
        rows.append((method, str(seed), "castings", test, "mean", "all", "image_auroc", value))
        rows.append((method, str(seed), "castings", test, "nut", "all", "image_auroc", 1 - value))
        rows.append((method, str(seed), "castings", test, "mean", "all", "pixel_auroc", 1 - value))
    rows.append(("poor", "mean", "castings", "boards", "mean", "all", "image_auroc", 1.0))
    rows.append(("poor", "0", "castings", "mean", "mean", "all", "image_auroc", 1.0))
    columns = ["method", "seed", "train_set", "test_set", "category", "defect", "metric", "value"]
    return pd.DataFrame(rows, columns=columns)


def both(method: str, *values: float) -> dict[tuple[str, int, str], float]:
    return {(method, s, t): v for s, v in enumerate(values) for t in ("boards", "fabrics")}


LEARNED = {"good", "poor"}


def test_the_best_method_and_its_middle_seed() -> None:
    table = metrics(both("good", 0.9, 0.7, 0.8) | both("poor", 0.95, 0.5, 0.6))
    assert choose_challenger(table, "image_auroc", LEARNED) == Cell("good", "castings", 2)
    shuffled = table.sample(frac=1, random_state=3)
    assert choose_challenger(shuffled, "image_auroc", LEARNED) == Cell("good", "castings", 2)


def test_methods_that_do_not_learn_are_no_challengers() -> None:
    table = metrics(both("words", 0.99) | both("poor", 0.6))
    assert choose_challenger(table, "image_auroc", LEARNED) == Cell("poor", "castings", 0)
    assert choose_challenger(metrics(both("words", 0.99)), "image_auroc", {"good"}) is None


def test_ties_go_to_the_lower_seed_and_even_counts_to_the_lower_middle() -> None:
    assert choose_challenger(metrics(both("good", 0.8, 0.8, 0.8)), "image_auroc", LEARNED).seed == 0
    assert choose_challenger(metrics(both("good", 0.9, 0.7)), "image_auroc", LEARNED).seed == 1
    assert choose_challenger(metrics(both("good", 0.9, 0.6, 0.8, 0.7)), "image_auroc", LEARNED).seed == 3


def test_the_middle_is_found_by_the_mean_over_test_sets() -> None:
    values = {("good", 0, "boards"): 0.9, ("good", 0, "fabrics"): 0.5}  # 0.70
    values |= {("good", 1, "boards"): 0.8, ("good", 1, "fabrics"): 0.8}  # 0.80
    values |= {("good", 2, "boards"): 0.7, ("good", 2, "fabrics"): 0.8}  # 0.75
    assert choose_challenger(metrics(values), "image_auroc", LEARNED) == Cell("good", "castings", 2)


def test_a_missing_test_set_is_no_advantage() -> None:
    table = metrics(both("good", 0.8) | {("poor", 0, "boards"): 0.79})
    assert choose_challenger(table, "image_auroc", LEARNED).method == "good"
    easy = metrics({("good", 0, "boards"): 0.8, ("good", 0, "fabrics"): 0.2, ("poor", 0, "boards"): 0.79})
    assert choose_challenger(easy, "image_auroc", LEARNED).method == "good"


def test_another_metric_may_choose_another() -> None:
    table = metrics(both("good", 0.9) | both("poor", 0.6))
    assert choose_challenger(table, "pixel_auroc", LEARNED).method == "poor"
    assert choose_challenger(table, "aupro", LEARNED) is None
