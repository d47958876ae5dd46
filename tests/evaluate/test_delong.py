"""DeLong's covariance against all pairs, two published examples, and how often the test is wrong."""

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from flawline.evaluate.delong import combine, delong, delong_test, two_sided


def slow(labels: np.ndarray, scores: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """As DeLong et al. write it: every pair, components, sample covariances."""
    bad, good = scores[:, labels == 1], scores[:, labels == 0]
    psi = (bad[:, :, None] > good[:, None, :]) + 0.5 * (bad[:, :, None] == good[:, None, :])
    of_bad, of_good = psi.mean(axis=2), psi.mean(axis=1)
    return psi.mean(axis=(1, 2)), np.cov(of_bad) / bad.shape[1] + np.cov(of_good) / good.shape[1]


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("levels", [3, 1000])
def test_equal_to_all_pairs(seed: int, levels: int) -> None:
    random = np.random.default_rng(seed)
    labels = random.permutation(np.repeat([0, 1], [17, 31]))
    scores = np.round((random.normal(labels, 1, (3, 48)) + random.normal(0, 1, 48)) * levels / 4)
    areas = delong(labels, scores)
    assert areas is not None
    values, covariance = slow(labels, scores)
    assert areas.values == pytest.approx(values)
    assert areas.values == pytest.approx([roc_auc_score(labels, one) for one in scores])
    assert areas.covariance == pytest.approx(covariance)


# albumin, total protein, K-G score, benefit: the 43 complete records of DeLong et al. (1988), as the SAS/STAT user's
# guide lists them (LOGISTIC procedure, "Comparing Receiver Operating Characteristic Curves").
OVARIAN = """
3.0 5.8 10 0 3.2 6.3 5 1 3.9 6.8 3 1 2.8 4.8 6 0 3.2 5.8 3 1 0.9 4.0 5 0 2.5 5.7 8 0 1.6 5.6 5 1 3.8 5.7 5 1
3.7 6.7 6 1 3.2 5.4 4 1 3.8 6.6 6 1 4.1 6.6 5 1 3.6 5.7 5 1 4.3 7.0 4 1 3.6 6.7 4 0 2.3 4.4 6 1 4.2 7.6 4 0
4.0 6.6 6 0 3.5 5.8 6 1 3.8 6.8 7 1 3.0 4.7 8 0 4.5 7.4 5 1 3.7 7.4 5 1 3.1 6.6 6 1 4.1 8.2 6 1 4.3 7.0 5 1
4.3 6.5 4 1 3.2 5.1 5 1 2.6 4.7 6 1 3.3 6.8 6 0 1.7 4.0 7 0 3.7 6.1 5 1 3.3 6.3 7 1 4.2 7.7 6 1 3.5 6.2 5 1
2.9 5.7 9 0 2.1 4.8 7 1 2.8 6.2 8 0 4.0 7.0 7 1 3.3 5.7 6 1 3.7 6.9 5 1 3.6 6.6 5 1
"""


def test_the_example_of_delong_et_al() -> None:
    table = np.asarray(OVARIAN.split(), dtype=float).reshape(-1, 4)
    labels, scores = table[:, 3].astype(int), np.stack([table[:, 0], table[:, 1], -table[:, 2]])
    areas = delong(labels, scores)
    assert areas is not None
    # Printed there: areas and standard errors, then the contrasts with the K-G score and their chi-squares.
    assert areas.values == pytest.approx([0.7366, 0.6478, 0.7258], abs=5e-5)
    assert np.sqrt(np.diag(areas.covariance)) == pytest.approx([0.0927, 0.1000, 0.1028], abs=5e-5)
    protein = delong_test(labels, np.repeat("c", 43), scores[1], scores[2])
    albumin = delong_test(labels, np.repeat("c", 43), scores[0], scores[2])
    assert protein is not None and albumin is not None
    assert (protein.difference, protein.error, protein.p) == pytest.approx(
        (-0.0780, 0.1046, 0.4561), abs=5e-5
    )
    assert (albumin.difference, albumin.error, albumin.p) == pytest.approx((0.0108, 0.0953, 0.9102), abs=5e-5)


def test_the_ratings_of_hanley_and_mcneil() -> None:
    """109 tomograms on a five-point scale (Hanley and McNeil 1982); DeLong's error 0.0307 as Stata prints it."""
    good, bad = [33, 6, 6, 11, 2], [3, 2, 2, 11, 33]
    scores = np.concatenate([np.repeat(np.arange(5), good), np.repeat(np.arange(5), bad)])
    areas = delong(np.repeat([0, 1], [58, 51]), scores[None])
    assert areas is not None
    assert float(areas.values[0]) == pytest.approx(0.8932, abs=5e-5)
    assert float(areas.covariance[0, 0] ** 0.5) == pytest.approx(0.0307, abs=5e-5)


def test_categories_are_averaged_and_one_class_alone_is_left_out() -> None:
    random = np.random.default_rng(0)
    labels = np.tile([0, 1], 40)
    names = np.repeat(["a", "b"], 40)
    ours, theirs = random.normal(labels, 1), random.normal(labels / 2, 1)
    whole = delong_test(labels, names, ours, theirs)
    parts = [
        delong_test(labels[names == c], names[names == c], ours[names == c], theirs[names == c]) for c in "ab"
    ]
    assert whole is not None and all(parts)
    assert whole.difference == pytest.approx(np.mean([part.difference for part in parts if part]))
    assert whole.error == pytest.approx(np.hypot(*[part.error for part in parts if part]) / 2)
    more = delong_test(
        np.append(labels, [0, 0]),
        np.append(names, ["z", "z"]),
        np.append(ours, [1, 2]),
        np.append(theirs, [1, 2]),
    )
    assert more == whole


def test_too_few_images_have_no_variance() -> None:
    assert delong(np.asarray([0, 0, 0, 1]), np.asarray([[1.0, 2, 3, 4]])) is None
    assert delong_test(np.zeros(4), np.repeat("c", 4), np.arange(4.0), np.arange(4.0)) is None
    assert combine([], []) is None
    # Two defective images, but views of one part.
    assert (
        delong(np.asarray([0, 0, 1, 1]), np.asarray([[1.0, 2, 3, 4]]), np.asarray(["", "", "p", "p"])) is None
    )


def test_nothing_differs_and_everything_differs() -> None:
    labels, scores = np.repeat([0, 1], 10), np.arange(20.0)
    same = delong_test(labels, np.repeat("c", 20), scores, 3 * scores + 1)
    assert same is not None and (same.difference, same.p) == (0, 1)
    turned = delong_test(labels, np.repeat("c", 20), scores, -scores)
    assert turned is not None and (turned.difference, turned.error, turned.p) == (1, 0, 0)
    assert two_sided(1.959964, 1.0) == pytest.approx(0.05, abs=1e-6)


def test_wrong_about_as_often_as_it_says() -> None:
    """200 comparisons of two equally good sets of scores at the 10 % level."""
    rejected = 0
    for seed in range(200):
        random = np.random.default_rng(seed)
        labels = np.repeat([0, 1], 50)
        shared = random.normal(labels, 1)
        ours, theirs = shared + random.normal(0, 1, 100), shared + random.normal(0, 1, 100)
        found = delong_test(labels, np.repeat("c", 100), ours, theirs)
        assert found is not None
        rejected += found.p < 0.1
    assert 8 <= rejected <= 34


def test_groups_of_one_change_nothing_and_copies_are_seen_through() -> None:
    random = np.random.default_rng(3)
    labels = np.repeat([0, 1], [20, 25])
    scores = random.normal(labels, 1, (2, 45))
    plain = delong(labels, scores)
    single = delong(labels, scores, np.asarray([f"part {k}" for k in range(45)], dtype=object))
    assert plain is not None and single is not None
    assert single.covariance == pytest.approx(plain.covariance)
    # Every image five times: the naive error shrinks, the grouped one stays.
    copied = delong(np.repeat(labels, 5), np.repeat(scores, 5, axis=1), np.repeat(np.arange(45), 5))
    fooled = delong(np.repeat(labels, 5), np.repeat(scores, 5, axis=1))
    assert copied is not None and fooled is not None
    assert copied.covariance == pytest.approx(plain.covariance)
    assert fooled.covariance[0, 0] < plain.covariance[0, 0] / 4


def test_groups_that_hold_both_classes() -> None:
    """Against the spread of the AUROC over 400 repetitions of views that share a part's own level."""
    areas, variances, naive = [], [], []
    for seed in range(10_000, 10_400):
        random = np.random.default_rng(seed)
        part = np.repeat(np.arange(30), 4)
        labels = np.tile([0, 0, 1, 1], 30)
        scores = random.normal(labels, 1) + np.repeat(random.normal(0, 1, 30), 4)
        found = delong(labels, scores[None], part)
        apart = delong(labels, scores[None])
        assert found is not None and apart is not None
        areas.append(found.values[0])
        variances.append(found.covariance[0, 0])
        naive.append(apart.covariance[0, 0])
    assert np.mean(variances) == pytest.approx(np.var(areas, ddof=1), rel=0.2)
    assert np.mean(naive) > 1.4 * np.var(areas, ddof=1)
