"""Classification metrics against scikit-learn and slow references; intervals against their formulas."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import stats
from sklearn import metrics as sk

from ssl_transfer.evaluation.floors import mean_interval
from ssl_transfer.evaluation.metrics import classification_metrics, label_metrics, number_metrics, wilson_interval


def _made_up(count: int, classes: int) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    probabilities = (2 * torch.randn(count, classes, generator=generator)).softmax(1)
    return probabilities, torch.randint(0, classes, (count,), generator=generator)


@pytest.mark.parametrize(("classes", "k"), [(10, 5), (6, 5), (5, 2), (2, 2)])
def test_against_scikit_learn(classes: int, k: int) -> None:
    probabilities, targets = _made_up(400, classes)
    metrics = classification_metrics(classes, "val/")
    for part in range(0, 400, 150):  # in batches, as in a run
        metrics.update(probabilities[part : part + 150], targets[part : part + 150])
    values = {name: float(value) for name, value in metrics.compute().items()}
    y, p = targets.numpy(), probabilities.numpy()
    predicted = p.argmax(1)
    assert values["val/accuracy"] == pytest.approx(sk.accuracy_score(y, predicted))
    assert values["val/balanced_accuracy"] == pytest.approx(sk.balanced_accuracy_score(y, predicted))
    assert values["val/f1_macro"] == pytest.approx(sk.f1_score(y, predicted, average="macro"))
    within = np.mean([label in np.argsort(row)[-k:] for label, row in zip(y, p, strict=True)])
    assert values[f"val/top{k}_accuracy"] == pytest.approx(within)
    assert values["val/calibration_error"] == pytest.approx(_calibration_error(p, y), abs=1e-6)


def _calibration_error(p: np.ndarray, y: np.ndarray) -> float:
    """Expected calibration error over 15 bins of confidence, bin by bin."""
    confidence, right = p.max(1), p.argmax(1) == y
    total = 0.0
    for low in range(15):
        inside = (confidence > low / 15) & (confidence <= (low + 1) / 15)
        if inside.any():
            total += inside.mean() * abs(confidence[inside].mean() - right[inside].mean())
    return total


def test_a_first_batch_that_is_all_right_binds_no_figures_together() -> None:
    """What the second batch holds is counted for each figure by itself: here the true class always comes second."""
    metrics = classification_metrics(10, "")
    truth = torch.arange(10)
    metrics.update(torch.eye(10) * 0.5 + 0.05, truth)
    second = torch.full((10, 10), 0.05)
    second[:, 0], second[truth[1:], truth[1:]] = 0.4, 0.2
    metrics.update(second, truth)
    values = {name: float(value) for name, value in metrics.compute().items()}
    assert values["accuracy"] == pytest.approx(0.55) and values["top5_accuracy"] == 1.0


def test_a_class_that_never_occurs_does_not_count_against_the_balance() -> None:
    metrics = classification_metrics(3, "")
    metrics.update(torch.tensor([[0.9, 0.1, 0.0], [0.1, 0.9, 0.0]]), torch.tensor([0, 1]))
    assert float(metrics.compute()["balanced_accuracy"]) == 1.0
    metrics.reset()
    truth, predicted = torch.tensor([0, 0, 1, 1]), torch.tensor([0, 2, 1, 1])
    for row in range(4):
        metrics.update(torch.eye(3)[predicted[row : row + 1]], truth[row : row + 1])
    values = {name: float(value) for name, value in metrics.compute().items()}
    assert values["balanced_accuracy"] == 0.75
    assert values["f1_macro"] == pytest.approx(sk.f1_score(truth, predicted, average="macro"))


def test_labels_against_scikit_learn() -> None:
    generator = torch.Generator().manual_seed(0)
    truth = (torch.rand(300, 5, generator=generator) < torch.tensor([0.5, 0.3, 0.1, 0.0, 1.0])).float()
    probabilities = (truth + torch.randn(300, 5, generator=generator)).sigmoid()
    metrics = label_metrics(5, "val/")
    for part in range(0, 300, 130):
        metrics.update(probabilities[part : part + 130], truth[part : part + 130].long())
    values = {name: float(value) for name, value in metrics.compute().items()}
    y, p = truth.numpy(), probabilities.numpy()
    predicted = (p >= 0.5).astype(int)
    occur, vary = [0, 1, 2, 4], [0, 1, 2]
    assert values["val/mean_average_precision"] == pytest.approx(
        np.mean([sk.average_precision_score(y[:, k], p[:, k]) for k in occur])
    )
    assert values["val/auroc_macro"] == pytest.approx(sk.roc_auc_score(y[:, vary], p[:, vary], average="macro"))
    assert values["val/f1_macro"] == pytest.approx(sk.f1_score(y, predicted, average="macro", zero_division=0))
    assert values["val/exact_match"] == pytest.approx(sk.accuracy_score(y, predicted))
    assert values["val/label_accuracy"] == pytest.approx(1 - sk.hamming_loss(y, predicted))


def test_a_single_label() -> None:
    metrics = label_metrics(1, "")
    metrics.update(torch.tensor([[0.9], [0.4], [0.6], [0.1]]), torch.tensor([[1], [1], [0], [0]]))
    values = {name: float(value) for name, value in metrics.compute().items()}
    assert values["auroc_macro"] == 0.75 and values["f1_macro"] == 0.5 and values["exact_match"] == 0.5
    assert values["mean_average_precision"] == pytest.approx((1 + 2 / 3) / 2)


def test_numbers_against_scikit_learn() -> None:
    generator = torch.Generator().manual_seed(0)
    truth = (10 * torch.randn(200, 1, generator=generator)).round()  # with ties
    answers = truth + 4 * torch.randn(200, 1, generator=generator)
    metrics = number_metrics("test/")
    for part in range(0, 200, 70):
        metrics.update(answers[part : part + 70], truth[part : part + 70])
    values = {name: float(value) for name, value in metrics.compute().items()}
    y, p = truth[:, 0].numpy(), answers[:, 0].numpy()
    assert values["test/mean_absolute_error"] == pytest.approx(sk.mean_absolute_error(y, p))
    assert values["test/root_mean_squared_error"] == pytest.approx(sk.root_mean_squared_error(y, p))
    assert values["test/r2"] == pytest.approx(sk.r2_score(y, p))
    assert values["test/spearman"] == pytest.approx(stats.spearmanr(y, p).statistic)


def test_what_says_nothing_is_no_figure() -> None:
    numbers = number_metrics("")
    numbers.update(torch.tensor([[1.0]]), torch.tensor([[3.0]]))
    values = numbers.compute()
    assert values["r2"].isnan() and values["spearman"].isnan() and float(values["mean_absolute_error"]) == 2.0
    labels = label_metrics(2, "")
    labels.update(torch.tensor([[0.2, 0.7]]), torch.tensor([[0, 0]]))
    found = labels.compute()
    assert found["mean_average_precision"].isnan() and found["auroc_macro"].isnan()
    assert float(found["label_accuracy"]) == 0.5 and float(found["exact_match"]) == 0.0


@pytest.mark.parametrize(("share", "count"), [(0.5, 10), (0.9, 100), (1.0, 20), (0.0, 7), (0.973, 539)])
def test_wilson_s_interval_solves_its_equation(share: float, count: int) -> None:
    """Its bounds are the shares π with |share − π| = z √(π (1 − π) / count)."""
    for bound in wilson_interval(share, count):
        assert abs(share - bound) == pytest.approx(1.96 * np.sqrt(abs(bound * (1 - bound)) / count), abs=1e-6)
    reference = stats.binomtest(round(share * count), count).proportion_ci(0.95, method="wilson")
    if abs(share * count - round(share * count)) < 1e-9:
        assert wilson_interval(share, count) == pytest.approx((reference.low, reference.high), abs=1e-4)


def test_wilson_without_images_says_nothing() -> None:
    assert wilson_interval(0.0, 0) == (0.0, 1.0)


def test_mean_interval_is_student_s() -> None:
    values = [0.91, 0.88, 0.93, 0.9, 0.86]
    mean, low, high = mean_interval(values)
    reference = stats.t.interval(0.95, 4, loc=np.mean(values), scale=stats.sem(values))
    assert (mean, low, high) == pytest.approx((np.mean(values), *reference))
    assert mean_interval([0.7]) == (0.7, 0.7, 0.7)
