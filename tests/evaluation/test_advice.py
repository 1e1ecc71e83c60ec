"""The decision alone: what wins, what cannot be told apart, what is usual, and Bayes' rule against a slow reference."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from ssl_transfer.evaluation.advice import advise
from ssl_transfer.evaluation.gains import Prior, prior_covariance, prior_gains
from ssl_transfer.evaluation.measurements import DISTANCE, Estimate, Measurements, Point


def rights(accuracy: float, count: int, seed: int, like: tuple[int, ...] | None = None, agree: float = 0.0) -> Any:
    """Drawn right with a probability, and as in `like` for a share of the images."""
    random = np.random.default_rng(seed)
    drawn = (random.random(count) < accuracy).astype(int)
    if like is not None:
        drawn = np.where(random.random(count) < agree, like, drawn)
    return tuple(drawn.tolist())


def told(labels: float = 20.0, count: int = 300, **accuracies: float) -> Measurements:
    estimates: dict[str, Estimate] = {}
    for number, (name, accuracy) in enumerate(accuracies.items()):
        steps = 0 if name in ("frozen", "as_is") else 600
        exact = [1] * round(accuracy * count) + [0] * (count - round(accuracy * count))
        shifted = np.roll(exact, number * count // 7)  # they err on other images
        estimates[name] = Estimate(tuple(shifted.tolist()), steps, steps)
    return Measurements(labels, labels * 2 / 3, estimates)


def test_what_clearly_wins_is_advised() -> None:
    for best in ("frozen", "partial", "full", "scratch"):
        accuracies = {name: 0.9 if name == best else 0.6 for name in ("frozen", "partial", "full", "scratch")}
        advice = advise(told(200, 1000, **accuracies))
        assert (advice.strategy, advice.certainty, advice.equals) == (best, "sure", ())
        assert [s.strategy for s in advice.standings] == ["frozen", "partial", "full", "scratch"]


def test_equals_go_to_the_cheapest_which_says_so() -> None:
    advice = advise(told(10, 60, frozen=0.70, partial=0.70, full=0.717, scratch=0.5))
    assert advice.strategy == "frozen" and advice.certainty == "cannot tell" and "full" in advice.equals
    assert "cannot be told apart" in advice.reason and "cheapest" in advice.reason


def test_a_gain_below_half_a_point_is_not_worth_its_cost() -> None:
    count = 200_000
    right = rights(0.9, count, 0)
    flip = tuple(1 if n < 600 else r for n, r in enumerate(right))  # some 60 images more, .03 points
    estimates = {"frozen": Estimate(right), "full": Estimate(flip, 600, 600)}
    advice = advise(Measurements(1000, 1000, estimates), Prior(deviations={"full": 0.04}))
    assert advice.strategy == "frozen"


def test_scratch_needs_evidence_with_few_labels_and_less_with_many() -> None:
    few = advise(told(5, 50, frozen=0.60, scratch=0.62))
    many = advise(told(5000, 3000, frozen=0.85, scratch=0.90))
    assert few.strategy == "frozen" and many.strategy == "scratch"
    gain = {s.strategy: s for s in few.standings}["scratch"]
    assert gain.measured == pytest.approx(0.02) and gain.gain < 0 and gain.spread < gain.noise


def test_short_runs_count_less_and_what_they_lack_is_made_up_for() -> None:
    estimates = told(20, 300, frozen=0.7, scratch=0.6).estimates
    short = estimates | {"scratch": Estimate(estimates["scratch"].right, 30, 600)}
    whole, hasty = (advise(Measurements(20, 40 / 3, one)).standings[1] for one in (estimates, short))
    assert whole.measured == pytest.approx(-0.1) and -0.1 < hasty.measured < 0
    assert whole.noise < hasty.noise and whole.spread < hasty.spread
    assert whole.gain < hasty.gain < 0


def test_bayes_rule_by_drawing() -> None:
    """Gains are drawn as is usual, each weighed by how probably it would have been measured."""
    random = np.random.default_rng(0)
    frozen = rights(0.7, 150, 1)
    estimates = {
        "frozen": Estimate(frozen),
        "partial": Estimate(rights(0.75, 150, 2, frozen, 0.8), 600, 600),
        "full": Estimate(rights(0.8, 150, 3, frozen, 0.7), 600, 600),
    }
    prior = Prior(drift=0.0)
    advice = advise(Measurements(30, 30, estimates), prior)
    names = ["partial", "full"]
    paired = np.array([estimates[n].right for n in names]).T - np.array(frozen)[:, None]
    noise = np.cov(paired.T, bias=True) / 150 + np.eye(2) * 0.01**2
    drawn = random.multivariate_normal(prior_gains(prior, names, 30), prior_covariance(prior, names), 400_000)
    apart = paired.mean(0) - drawn
    weights = np.exp(-0.5 * np.einsum("ni,ij,nj->n", apart, np.linalg.inv(noise), apart))
    mean = np.average(drawn, axis=0, weights=weights)
    spread = np.sqrt(np.average((drawn - mean) ** 2, axis=0, weights=weights))
    assert [s.gain for s in advice.standings[1:]] == pytest.approx(mean, abs=2e-3)
    assert [s.spread for s in advice.standings[1:]] == pytest.approx(spread, rel=0.05)


def test_more_labels_than_were_measured_count_by_what_is_usual() -> None:
    measured = told(30, 300, frozen=0.7, full=0.7)
    here, beyond = (Measurements(labels, 20, measured.estimates) for labels in (20, 2000))
    gains = [advise(m).standings[1].gain for m in (here, beyond)]
    usual = Prior().mean("full", 2000) - Prior().mean("full", 20)
    assert gains[1] - gains[0] == pytest.approx(usual)


def test_unlike_images_make_tuning_more_likely_to_pay() -> None:
    measured = told(10, 60, frozen=0.7, full=0.7, scratch=0.7)
    gains = {}
    for distance in (0.0, None, 2.0):
        figures = {} if distance is None else {DISTANCE: distance}
        here = Measurements(measured.labels, measured.taught, measured.estimates, figures=figures)
        gains[distance] = [s.gain for s in advise(here).standings[1:]]
    assert all(near < middle < far for near, middle, far in zip(*gains.values(), strict=True))


def test_as_is_stands_for_the_reference_where_the_network_has_a_head() -> None:
    advice = advise(told(20, 300, as_is=0.8, full=0.6))
    assert advice.strategy == "as_is" and advice.standings[0].strategy == "as_is"
    assert "the network as it is" in advice.reason


def test_floors_do_not_compete() -> None:
    measured = told(20, 300, frozen=0.6, full=0.6)
    more = measured.estimates | {"raw pixels": Estimate(tuple([1] * 300))}
    advice = advise(Measurements(20, 40 / 3, more))
    assert advice.strategy in ("frozen", "full")
    assert "A linear head on raw pixels does better" in advice.reason and "(100.0 %)" in advice.reason
    assert "does better" not in advise(measured).reason


def test_with_nothing_measured_it_says_so() -> None:
    advice = advise(Measurements(1, 0, remarks=("class 'a' has 1 labelled training image",)))
    assert (advice.strategy, advice.certainty) == ("frozen", "cannot tell")
    assert advice.reason.startswith("Class 'a' has 1 labelled training image. By what is usual")
    alone = advise(told(20, 300, frozen=0.6))
    assert alone.certainty == "cannot tell" and "No other strategy was measured" in alone.reason


def test_perfect_agreement_is_no_certainty() -> None:
    advice = advise(told(2, 20, frozen=1.0, full=1.0))
    assert advice.strategy == "frozen" and advice.standings[1].noise > 0.04


def test_little_is_left_to_gain_where_little_is_wrong() -> None:
    """Short fits and what is usual promise no more than what is left wrong."""
    count = 400
    for kept, tuned in ((0.995, 0.995), (0.99, 0.98), (1.0, 1.0), (0.96, 0.95)):
        estimates = told(1000, count, frozen=kept, partial=tuned, scratch=tuned).estimates
        short = {name: Estimate(e.right, 30 if e.wanted else 0, e.wanted) for name, e in estimates.items()}
        advice = advise(Measurements(1000, 1000, short))
        assert advice.strategy == "frozen"
        for standing in advice.standings:
            assert standing.accuracy <= 1 and kept + standing.gain <= 1 and kept + standing.measured <= 1 + 1e-9


def test_no_gain_beyond_the_ceiling() -> None:
    estimates = {"frozen": Estimate((1,) * 90 + (0,) * 10), "full": Estimate((1,) * 100, 600, 600)}
    surely = Prior(means={"full": (0.5, 0.0, 0.5, 0.5)})
    assert advise(Measurements(20, 20, estimates), surely).standings[1].gain == pytest.approx(0.1)


def test_what_short_fits_lack_alone_makes_nothing_likely() -> None:
    """Measured, tuning loses; the usual lack of so few steps more than makes up for that."""
    estimates = told(100, 3000, frozen=0.50, scratch=0.48).estimates
    short = estimates | {"scratch": Estimate(estimates["scratch"].right, 30, 600)}
    advice = advise(Measurements(100, 100, short), Prior(deviations={"scratch": 0.3}))
    assert (advice.strategy, advice.certainty) == ("scratch", "cannot tell")
    assert "may add was not measured but is what short fits lack: give more minutes" in advice.reason
    longer = told(100, 3000, frozen=0.50, scratch=0.55)
    found = advise(longer, Prior(deviations={"scratch": 0.3}))
    assert found.certainty == "sure" and "lack" not in found.reason


def test_gains_are_of_shared_images_and_accuracies_of_all() -> None:
    frozen, full = (1, 0, 1, 0) * 25, (1, 1, 1, 0) * 10
    standings = advise(Measurements(20, 20, {"frozen": Estimate(frozen), "full": Estimate(full, 600, 600)})).standings
    assert standings[0].accuracy == 0.5 and standings[1].measured == pytest.approx(0.25)


def test_measurements_survive_json() -> None:
    measured = Measurements(
        20.5,
        13.0,
        {"frozen": Estimate((1, 0, 1)), "full": Estimate((1, 1, 1), 30, 600)},
        (Point("kNN", 2.0, 0.5, 0.1),),
        {"LogME": -0.3},
        ("a remark",),
    )
    assert Measurements.from_dict(json.loads(json.dumps(measured.to_dict()))) == measured
    assert measured.images == 3 and measured.estimates["full"].missing == pytest.approx(0.95)
