"""What a round draws, keeps back and shows: by noise, by seed, without copying the training set."""

from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from flawline.tune.loop import TuningData
from flawline.tune.rounds import EMBEDDING, GOOD, draw_round, embedding_anomaly, in_turn, noises_of, pick

NOISES = ["blur", "gaussian", "line", "stain"]


@pytest.fixture
def noisy(data: TuningData) -> TuningData:
    """Eight good rows and four anomalous ones of each noise."""
    return replace(data, defects=[GOOD] * 8 + [NOISES[k % 4] for k in range(16)])


def test_first_round_is_its_noise_alone_where_there_is_such(noisy: TuningData) -> None:
    assert noises_of(noisy) == NOISES
    first = draw_round(NOISES, 0.25, seed=0, first="gaussian")
    assert first.noises == {"gaussian": 1.0} and first.held_out == ("blur", "line", "stain")
    absent = draw_round(["blur", "line", "stain"], 0.25, seed=0, first="gaussian")
    assert len(absent.noises) == 2 and len(absent.held_out) == 1


def test_probabilities_are_dirichlet_and_the_least_likely_noise_judges() -> None:
    drawn = [draw_round(NOISES, 0.25, seed) for seed in range(400)]
    for one in drawn:
        assert sum(one.noises.values()) == pytest.approx(1.0)
        assert sorted([*one.noises, *one.held_out]) == NOISES and len(one.held_out) == 1
    assert {one.held_out[0] for one in drawn} == set(NOISES)
    for seed, one in enumerate(drawn):
        chances = np.random.default_rng(seed).dirichlet([1.0] * 4)
        assert one.held_out == (NOISES[int(chances.argmin())],)
        left = {
            name: c / (1 - chances.min())
            for name, c in zip(NOISES, chances, strict=True)
            if c > chances.min()
        }
        assert one.noises == pytest.approx(left)
    # Dirichlet(1) of four: the least share is 1/16 on average, the largest 25/48
    largest = np.mean([max(one.noises.values()) for one in drawn])
    assert largest == pytest.approx(25 / 48 / (1 - 1 / 16), abs=0.03)
    assert draw_round(NOISES, 0.25, 3) == draw_round(NOISES, 0.25, 3) != draw_round(NOISES, 0.25, 4)


@pytest.mark.parametrize(("share", "kept"), [(0.0, 0), (0.01, 1), (0.5, 2), (0.99, 3)])
def test_share_of_noises_that_judge(share: float, kept: int) -> None:
    assert len(draw_round(NOISES, share, seed=1).held_out) == kept
    assert draw_round(["gaussian"], share, seed=1).held_out == ()


def test_rows_come_with_their_noises_probabilities_and_all_good_ones(noisy: TuningData) -> None:
    picked = pick(noisy, {"blur": 0.25, "line": 0.75}, 80, seed=0)
    assert picked.labels.tolist() == [0] * 8 + [1] * 80
    assert picked.at[:8].tolist() == list(range(8))
    assert set(picked.defects[8:]) == {"blur", "line"} and 45 <= picked.defects.count("line") <= 72
    for place, row in enumerate(picked.at.tolist()):
        assert noisy.defects[row] == picked.defects[place]
    few = pick(noisy, {"blur": 1.0}, 4, seed=0)
    assert sorted(few.at[8:].tolist()) == [8, 12, 16, 20]  # each once before any twice


def test_batches_are_the_rows_they_name(noisy: TuningData) -> None:
    picked = pick(noisy, {"stain": 1.0}, 6, seed=1, good_rows=3)
    assert picked.inputs is noisy.inputs and len(picked.labels) == 9
    some = torch.tensor([8, 0, 5])
    batch, same = picked.rows(some), noisy.rows(picked.at[some])
    assert torch.equal(batch.patches, same.patches) and torch.equal(batch.cls, same.cls)
    assert torch.equal(batch.masks, same.masks) and batch.inputs.nouns == same.inputs.nouns
    assert batch.labels.tolist() == [1, 0, 1] and batch.defects == ["stain", GOOD, "stain"]
    assert sum(len(one.labels) for one in in_turn(picked, 4)) == 9


def test_a_set_that_names_no_noises_has_one(data: TuningData) -> None:
    assert noises_of(data) == ["anomaly"]
    assert pick(data, {"anomaly": 1.0}, 16, seed=0).at[8:].sort().values.tolist() == list(range(8, 24))


def test_embedding_noise_is_on_good_rows_inside_its_mask(noisy: TuningData) -> None:
    picked = pick(noisy, {EMBEDDING: 1.0}, 5, seed=2, strengths=(0.5,))
    assert int((picked.labels == 1).sum()) == 5  # it takes the place of an anomaly
    some = torch.arange(8, 13)
    batch, same = picked.rows(some), noisy.rows(picked.at[some])
    assert batch.labels.tolist() == [0] * 5  # but its image feature is a good image's
    assert torch.equal(batch.cls, same.cls) and batch.masks.flatten(1).any(1).all()
    small = F.interpolate(batch.masks[:, None].float(), size=8, mode="area")[:, 0].flatten(1)
    moved = (batch.patches - same.patches).norm(dim=-1)[:, 0]
    assert set(small.unique().tolist()) == {0.0, 1.0}
    assert (moved[small == 0] == 0).all() and (moved[small == 1] > 0.2).all()
    assert torch.equal(picked.rows(some[3:4]).patches[0], batch.patches[3])  # of the pick, not of the batch
    assert not torch.equal(batch.masks[0], batch.masks[1])
    again = pick(noisy, {EMBEDDING: 1.0}, 5, seed=2, strengths=(0.5,))
    assert torch.equal(again.rows(some).patches, batch.patches)


@pytest.mark.parametrize("strength", [0.25, 1.0])
def test_embedding_noise_has_its_strength(strength: float) -> None:
    rng = np.random.default_rng(0)
    patches = F.normalize(torch.randn(2, 64, 512, generator=torch.Generator().manual_seed(0)), dim=-1)
    shares, cosines = [], []
    for _ in range(40):
        out, mask = embedding_anomaly(patches, 32, (strength,), rng)
        changed = (out != patches).any(-1)
        assert torch.equal(changed[0], changed[1])
        assert torch.allclose(out.norm(dim=-1), torch.ones(2, 64), atol=1e-5)
        shares.append(float(mask.float().mean()))
        cosines.append(float((out * patches).sum(-1)[changed].mean()))
    assert min(shares) > 0.01 and max(shares) < 0.21 and np.ptp(shares) > 0.05
    assert np.mean(cosines) == pytest.approx(1 / (1 + strength**2) ** 0.5, abs=0.03)
