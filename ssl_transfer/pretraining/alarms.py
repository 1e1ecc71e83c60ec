"""Plain-language warnings, from the figures of an epoch: what is wrong, how it shows, and the cure."""

from __future__ import annotations

from collections.abc import Mapping

DATA_WAIT = 0.3
COLLAPSED_STD = 0.05
COLLAPSED_RANK = 1.5
SATURATED = 0.02
BELOW_FLOOR = 0.02
SAME_PIXELS = 0.5 / 255


def alarms(figures: Mapping[str, float]) -> dict[str, str]:
    """The warnings that the figures call for, by name; empty if all is well.

    Args:
        figures: of the epoch, by their name without the split: `loss` and `chance_loss` (what guessing costs),
            `rankme`, `feature_std`, `view_difference` (mean absolute difference of two views' pixels in [0, 1]),
            `data_wait_share`, `knn_accuracy` and `knn_accuracy_raw_pixels`, and `progress`, the share of the training
            that is done. What is missing is not judged.

    >>> list(alarms({"feature_std": 0.001, "data_wait_share": 0.1}))
    ['collapse']
    """
    found = {}
    if _below(figures, "feature_std", COLLAPSED_STD):
        found["collapse"] = (
            f"the encoder has collapsed: all images get nearly the same feature (val/feature_std "
            f"{figures['feature_std']:.3f}, healthy above 0.2); lower --model.optimisation.lr, or use larger batches"
        )
    elif _below(figures, "rankme", COLLAPSED_RANK):
        found["rank_one"] = (
            f"the features have rank one: they tell images apart along one direction only (val/rankme "
            f"{figures['rankme']:.2f}); lower --model.optimisation.lr, or make the task harder"
        )
    if "chance_loss" in figures and "loss" in figures:
        chance, loss = figures["chance_loss"], figures["loss"]
        if loss > chance * (1 - SATURATED):
            found["saturated"] = (
                f"the loss is saturated: {loss:.2f}, no better than guessing, which costs log(2B−1) = {chance:.2f}, so "
                "views do not find their partners; lower --model.optimisation.lr, or set --model.temperature between "
                "0.1 and 0.5"
            )
    if _below(figures, "view_difference", SAME_PIXELS):
        found["views_identical"] = (
            "the two views of an image are identical, so there is nothing to learn from their agreement; "
            "set --model.views stronger (crop, flip, jitter)"
        )
    knn, pixels = figures.get("knn_accuracy", 1.0), figures.get("knn_accuracy_raw_pixels", 0.0)
    if figures.get("progress", 0) >= 1 and knn < pixels - BELOW_FLOOR:
        found["below_floor"] = (
            f"the encoder has not helped: its neighbours are right for {knn:.1%} of the held-out images, those of the "
            f"raw pixels for {pixels:.1%}; train longer, or choose another objective or stronger views"
        )
    if figures.get("data_wait_share", 0) > DATA_WAIT:
        found["data_starved"] = (
            f"training waits for images {figures['data_wait_share']:.0%} of the time; raise --data.memory_budget so "
            "that they fit in memory, or put the cache (--data.cache_dir) on a faster disk"
        )
    return found


def _below(figures: Mapping[str, float], name: str, limit: float) -> bool:
    return name in figures and figures[name] < limit
