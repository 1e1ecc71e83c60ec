"""Plain-language warnings, from the figures of an epoch: what is wrong, how it shows, and the cure."""

from __future__ import annotations

from collections.abc import Mapping

DATA_WAIT = 0.3
WAIT_THAT_COUNTS = 1.0  # seconds an epoch; a shorter one costs nothing, and may be the work of other programs
COLLAPSED_STD = 0.05
COLLAPSED_RANK = 1.5
SATURATED = 0.02
EARLY = 100  # steps before which a loss may still be that of a guess
SAME_PIXELS = 0.5 / 255
FEW = 50  # images, of which one cannot tell a collapse
FEWEST_STEPS = 100


def alarms(figures: Mapping[str, float]) -> dict[str, str]:
    """The warnings that the figures call for, by name; empty if all is well.

    Args:
        figures: of the epoch, by their name without the split: `loss` and `chance_loss` (what guessing costs), `steps`
            done, `rankme`, `feature_std`, `view_difference` (mean absolute difference of two views' pixels in [0, 1]),
            `data_wait_share` and `seconds_waited` (the epoch's), `knn_accuracy` and `knn_accuracy_raw_pixels`,
            `queries` (the images that were read), and `progress`, the share of the training that is done. What is
            missing is not judged.

    >>> list(alarms({"feature_std": 0.001, "data_wait_share": 0.1}))
    ['collapse']
    """
    found = {}
    enough = figures.get("queries", FEW) >= FEW
    if enough and _below(figures, "feature_std", COLLAPSED_STD):
        found["collapse"] = (
            f"the encoder has collapsed: all images get nearly the same feature (feature_std "
            f"{figures['feature_std']:.3f}, healthy above 0.2); lower --model.optimisation.lr, or use larger batches"
        )
    elif enough and _below(figures, "rankme", COLLAPSED_RANK):
        found["rank_one"] = (
            f"the features have rank one: they tell images apart along one direction only (rankme "
            f"{figures['rankme']:.2f}); lower --model.optimisation.lr, or make the task harder"
        )
    done = figures.get("progress", 0) >= 1
    if "chance_loss" in figures and "loss" in figures and (done or figures.get("steps", EARLY) >= EARLY):
        chance, loss = figures["chance_loss"], figures["loss"]
        if loss > chance * (1 - SATURATED):
            found["saturated"] = (
                f"the loss is saturated: {loss:.2f}, no better than guessing, which costs {chance:.2f}; lower "
                "--model.optimisation.lr, or (contrastive) set --model.temperature between 0.1 and 0.5"
            )
    if _below(figures, "view_difference", SAME_PIXELS):
        found["views_identical"] = (
            "the two views of an image are identical, so there is nothing to learn from their agreement; "
            "set --model.views stronger (crop, flip, jitter)"
        )
    if done and _below_floor(figures):
        found["below_floor"] = (
            f"the encoder has not helped: its neighbours are right for {figures['knn_accuracy']:.1%} of the held-out "
            f"images, those of the raw pixels for {figures['knn_accuracy_raw_pixels']:.1%}; train longer, or choose "
            "another objective or stronger views"
        )
    if done and (steps := int(figures.get("steps", FEWEST_STEPS))) < FEWEST_STEPS:
        found["few_steps"] = (
            f"only {steps} steps: pretraining learns little in fewer than {FEWEST_STEPS}; lower --data.batch_size or "
            "raise --trainer.max_epochs"
        )
    waited = figures.get("seconds_waited", WAIT_THAT_COUNTS)
    if figures.get("data_wait_share", 0) > DATA_WAIT and waited >= WAIT_THAT_COUNTS:
        found["data_starved"] = (
            f"training waits for images {figures['data_wait_share']:.0%} of the time; raise --data.memory_budget so "
            "that they fit in memory (of a stream: --data.num_workers), or put --data.cache_dir on a faster disk"
        )
    return found


def _below(figures: Mapping[str, float], name: str, limit: float) -> bool:
    return name in figures and figures[name] < limit


def _below_floor(figures: Mapping[str, float]) -> bool:
    """Whether kNN on features is worse than on raw pixels by more than two standard errors of the difference."""
    if "knn_accuracy" not in figures:
        return False
    knn, pixels = figures["knn_accuracy"], figures["knn_accuracy_raw_pixels"]
    error = ((knn * (1 - knn) + pixels * (1 - pixels)) / figures.get("queries", 1000)) ** 0.5
    return knn < pixels - 2 * error
