"""What trials say about pretraining in plain sentences: whether it helps, with how many labels, how sure that is."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from statistics import median

from ssl_transfer.evaluation.evidence import Cell, Comparison, Trial, budgets, cells, compare
from ssl_transfer.evaluation.intervals import Effect, Interval
from ssl_transfer.reporting.formats import count_word, duration, lower_first, number, percent

EFFECTS: tuple[Effect, ...] = ("helps", "hurts", "unclear", "same")
_FEW_IMAGES = 1000  # test images below which an accuracy is known to a few points only
_CLAUSES = {
    "helps": "pretraining helps",
    "same": "pretraining makes no difference (less than a point either way)",
    "unclear": "these trials cannot tell whether pretraining helps",
    "hurts": "pretraining hurts",
}
_ALONE = {
    "helps": "Pretraining helps",
    "same": "Pretraining makes no difference here, less than a point either way",
    "unclear": "These trials cannot tell whether pretraining helps",
    "hurts": "Pretraining hurts here: the best floor is more accurate",
}


def points(difference: float) -> str:
    """A difference of fractions in percentage points, signed.

    >>> points(0.0664)
    '+6.6'
    """
    return f"{100 * difference + 0.0:+.1f}"


def points_interval(difference: Interval) -> str:
    """The interval of a difference in percentage points, without a line break: "+5.1 to +8.2"."""
    return f"{points(difference.low)}\u00a0to\u00a0{points(difference.high)}" if difference.known else "not known"


def listed(words: Sequence[str]) -> str:
    """Words as a sentence lists them.

    >>> listed(["1", "5", "10"])
    '1, 5 and 10'
    """
    return " and ".join(part for part in (", ".join(words[:-1]), words[-1]) if part)


def with_labels(among: Sequence[int | None]) -> str:
    """Label budgets in a sentence.

    >>> with_labels([1, 5, None]), with_labels([1])
    ('with 1 and 5 labels a class and with all labels', 'with 1 label a class')
    """
    counts = [number(budget) for budget in among if budget is not None]
    parts = [f"with {listed(counts)} label{'' if counts == ['1'] else 's'} a class"] if counts else []
    return listed(parts + (["with all labels"] if None in among else []))


def counted(count: int, thing: str) -> str:
    """How many of a thing.

    >>> counted(1, "seed"), counted(5, "seed")
    ('one seed', 'five seeds')
    """
    return f"{count_word(count)} {thing}{'' if count == 1 else 's'}"


def cell_name(cell: Cell, trials: Iterable[Trial], inside: bool = False) -> str:
    """The method, with its encoder where the trials have several of this kind: "SimCLR: linear".

    `inside`: a sentence, where "Raw pixels" is "raw pixels"; the encoder keeps the name that the user gave it.
    """
    several = len({trial.encoder for trial in trials if trial.kind == cell.kind and trial.encoder}) > 1
    if several and cell.encoder:
        return f"{cell.encoder}: {lower_first(cell.method)}"
    return lower_first(cell.method) if inside else cell.method


def telling(found: Sequence[Comparison]) -> Comparison:
    """The comparison with the largest difference among those that are clear, or among all if none is."""
    clear = [one for one in found if one.clear]
    return max(clear or found, key=lambda one: (one.difference.count > 0, abs(one.difference.mean)))


def overall(trials: Sequence[Trial]) -> Effect:
    """What the trials say on the whole: "helps" or "hurts" where some budget says so and none the contrary."""
    effects = {one.effect for one in compare(trials)}
    if {"helps", "hurts"} <= effects or not effects:
        return "unclear"
    return next(effect for effect in EFFECTS if effect in effects)


def verdict(trials: Sequence[Trial], doubts: Sequence[str] = ()) -> list[str]:
    """Sentences, the most important first: what the trials say, then `doubts`, and what the trials cannot say.

    >>> verdict([])
    ['Nothing can be said yet: no label budget has both a pretrained encoder and a floor.']
    """
    return [*findings(trials), *doubts, *caveats(trials)]


def findings(trials: Sequence[Trial]) -> list[str]:
    """Whether pretraining helps, by how much, where the gain ends, which method is best where, and what it costs."""
    found = compare(trials)
    if not found:
        return ["Nothing can be said yet: no label budget has both a pretrained encoder and a floor."]
    return [
        _headline(found),
        _largest(telling(found), trials),
        *_shrinking(found),
        *_strategies(found, trials),
        _cost(found, trials),
    ]


def _headline(found: Sequence[Comparison]) -> str:
    groups = {
        effect: [one.budget for one in found if one.effect == effect]
        for effect in ("helps", "hurts", "same", "unclear")
    }
    groups = {effect: among for effect, among in groups.items() if among}
    if len(groups) == 1:
        effect, among = next(iter(groups.items()))
        where = f", at each of the {count_word(len(among))} label budgets:" if len(among) > 1 else ""
        return f"{_ALONE[effect]}{where} {with_labels(among)}."
    text = "; ".join(f"{_CLAUSES[effect]} {with_labels(among)}" for effect, among in groups.items())
    return f"{text[0].upper()}{text[1:]}."


def _largest(one: Comparison, trials: Sequence[Trial]) -> str:
    ours, floor = one.ours.cell, one.floor.cell
    told = (
        f"ours ({cell_name(ours, trials, inside=True)}) is right on {percent(ours.accuracy.mean)} of the test images, "
        f"the best floor ({cell_name(floor, trials, inside=True)}) on {percent(floor.accuracy.mean)}"
    )
    budget = with_labels([one.budget])
    lead = f"{budget[0].upper()}{budget[1:]} ({number(ours.labels)} images)"
    if not one.difference.count:
        return f"{lead}, {told}; they have no seed in common, so the difference has no interval."
    sure = f" (95\u00a0% interval {points_interval(one.difference)})" if one.difference.known else ""
    return f"{lead}, {told}: {points(one.difference.mean)}\u00a0points{sure}."


def _shrinking(found: Sequence[Comparison]) -> list[str]:
    """From which budget on the gain is no longer clear."""
    effects = [one.effect for one in found]
    helped = [position for position, effect in enumerate(effects) if effect == "helps"]
    if not helped or len(found) < 2:
        return []
    first, last = found[helped[0]], found[helped[-1]]
    if helped[-1] == len(found) - 1:
        if len(helped) > 1 and last.difference.mean < first.difference.mean / 2:
            return [
                f"The gain shrinks from {points(first.difference.mean)}\u00a0points {with_labels([first.budget])} to "
                f"{points(last.difference.mean)} {with_labels([last.budget])}."
            ]
        return []
    after = found[helped[-1] + 1]
    how = f"{points(after.difference.mean)}\u00a0points"
    how += f", {points_interval(after.difference)}" if after.difference.known else ", without an interval"
    return [f"The gain is last clear {with_labels([last.budget])}; {with_labels([after.budget])} it is {how}."]


def _strategies(found: Sequence[Comparison], trials: Sequence[Trial]) -> list[str]:
    """Which of our methods was chosen where."""
    groups: dict[str, list[int | None]] = {}
    for one in found:
        groups.setdefault(cell_name(one.ours.cell, trials), []).append(one.budget)
    by = {one.ours.by for one in found}
    if not by - {""}:
        return []
    how = "on validation accuracy" if "order" not in by else "without a validation accuracy, as the first listed"
    return [f"Chosen {how}: {'; '.join(f'{name} {with_labels(among)}' for name, among in groups.items())}."]


def _cost(found: Sequence[Comparison], trials: Sequence[Trial]) -> str:
    dearest = max(found, key=lambda one: one.ours.cell.seconds)
    ours, floor = dearest.ours.cell, dearest.floor.cell
    where = with_labels([dearest.budget])
    return (
        f"The choice cost most {where}: {duration(ours.seconds)} to train and test {cell_name(ours, trials)} once, "
        f"beside {duration(floor.seconds)} for the best floor. Pretraining comes on top."
    )


def caveats(trials: Sequence[Trial]) -> list[str]:
    """What a reader must know before believing the findings."""
    found = compare(trials)
    if not found:
        return []
    counts = [one.difference.count for one in found]
    known = all(trial.right is not None for trial in trials)
    told = []
    if min(counts) < 2:
        single = [one.budget for one in found if one.difference.count < 2]
        where = f" {with_labels(single)}" if len(single) < len(found) else ""
        told.append(
            f"Only one seed{where}: another draw of labels could change the outcome, and no interval holds that."
        )
    elif min(counts) == 2:
        told.append("Two seeds make wide intervals; three or more would say much more.")
    if not known:
        what = "the intervals are over seeds alone" if max(counts) > 1 else "there is no interval at all"
        told.append(f"Which test images were right is not known for all trials: {what}.")
    else:
        told += _few_images(trials, found)
    told += _several(found)
    if any(one.ours.by == "order" for one in found):
        told.append("No validation accuracy was measured, so ours is the method listed first, not the best one.")
    return told + unfinished(trials)


def _few_images(trials: Sequence[Trial], found: Sequence[Comparison]) -> list[str]:
    images = min(int(trial.right.split(":")[0]) for trial in trials if trial.right is not None)
    known = [one.difference for one in found if one.difference.known]
    if images >= _FEW_IMAGES or not known:
        return []
    seen = f"{100 * median(one.images for one in known):.1f}"
    told = f"The test split has only {number(images)} images: differences under about {seen} points cannot be seen"
    if median(one.half for one in known) > 2**0.5 * median(one.images for one in known):
        wide = f"{100 * median(one.half for one in known):.1f}"
        return [f"{told}, and what the seeds add makes that {wide}: more seeds would help more than more images."]
    return [f"{told}."]


def _several(found: Sequence[Comparison]) -> list[str]:
    """By which intervals the verdict is, and which budgets are clear by an interval of their own alone."""
    if len(found) < 2:
        return []
    alone = [one.budget for one in found if one.difference.effect in ("helps", "hurts") and not one.clear]
    if not alone and not any(one.clear for one in found):
        return []
    count = count_word(len(found))
    told = (
        f"{count.capitalize()} budgets are compared, so what is clear is so by intervals widened for {count} "
        "comparisons (Bonferroni); the 95\u00a0% intervals shown are each by itself"
    )
    return [f"{told}, and {with_labels(alone)} only these leave zero out." if alone else f"{told}."]


def unfinished(trials: Sequence[Trial]) -> list[str]:
    """Which cells of the grid have no trial, or fewer seeds than others: a run that was stopped."""
    found = cells(trials)
    seeds = {trial.seed for trial in trials}
    methods = dict.fromkeys((cell.encoder, cell.method) for cell in found)
    done = {(cell.encoder, cell.method, cell.budget): len(cell.trials) for cell in found}
    missing = sum(len(seeds) - done.get((*method, budget), 0) for method in methods for budget in budgets(trials))
    if not missing:
        return []
    whole = len(methods) * len(budgets(trials)) * len(seeds)
    return [f"{number(missing)} of {number(whole)} trials are missing; a method counts where it was measured."]
