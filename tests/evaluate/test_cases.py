import numpy as np
import pandas as pd
import pytest

from flawline.evaluate.cases import ease, pick_cases


def table(n=40, seed=0):
    random = np.random.default_rng(seed)
    labels = np.arange(n) % 2
    frame = pd.DataFrame({"image": [f"{i:03d}.png" for i in range(n)], "label": labels})
    frame["category"] = np.where(np.arange(n) < n // 2, "a", "b")
    frame["image_score"] = random.normal(labels, 1) + 100 * (frame["category"] == "b")
    return frame, random.random(n)


def test_ease_is_the_share_of_pairs_won():
    labels, scores = np.asarray([0, 0, 1, 1]), np.asarray([1.0, 3.0, 2.0, 3.0])
    assert ease(labels, scores).tolist() == [1.0, 0.25, 0.5, 0.75]
    assert ease(labels, scores)[labels == 1].mean() == ease(labels, scores)[labels == 0].mean()


def test_ease_without_the_other_class_is_even():
    assert ease(np.zeros(3), np.arange(3.0)).tolist() == [0.5] * 3


def test_no_image_twice_and_as_many_as_asked():
    cases = pick_cases(*table(), 4)
    assert len({case.row for case in cases}) == 12
    assert [case.kind for case in cases] == ["best"] * 4 + ["typical"] * 4 + ["worst"] * 4
    assert [case.number for case in cases] == [1, 2, 3, 4] * 3


def test_best_and_typical_are_anomalous_and_worst_are_mistakes():
    frame, places = table(seed=3)
    for case in pick_cases(frame, places, 4):
        row = frame.iloc[case.row]
        inside = frame[frame["category"] == row["category"]]
        share = ease(inside["label"].to_numpy(), inside["image_score"].to_numpy())[
            inside.index.get_loc(case.row)
        ]
        if case.kind != "worst":
            assert row["label"] == 1
        else:
            assert share < 0.5


def test_categories_take_turns_whatever_their_scale():
    frame, places = table()
    best = [frame.iloc[c.row]["category"] for c in pick_cases(frame, places, 4) if c.kind == "best"]
    assert sorted(best) == ["a", "a", "b", "b"]


def test_order_of_the_rows_does_not_matter():
    frame, places = table()
    shuffled = np.random.default_rng(1).permutation(len(frame))
    mixed = frame.iloc[shuffled].reset_index(drop=True)
    first = [frame.iloc[c.row]["image"] for c in pick_cases(frame, places, 3)]
    second = [mixed.iloc[c.row]["image"] for c in pick_cases(mixed, places[shuffled], 3)]
    assert first == second


@pytest.mark.parametrize("n", [1, 2, 3])
def test_few_images(n):
    frame, places = table(n)
    cases = pick_cases(frame, places, 4)
    assert len({case.row for case in cases}) == len(cases) <= n


def test_none_asked_none_picked():
    assert pick_cases(*table(), 0) == []
