"""What a grid of trials measured and how, in plain Python: everything that the evidence page shows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from ssl_transfer.evaluation.evidence import Trial, best, budgets, compare
from ssl_transfer.reporting.evidence_words import counted
from ssl_transfer.reporting.formats import number


@dataclass(frozen=True)
class EvidenceResults:
    """Everything the evidence page shows.

    Args:
        trials: what was measured, of a finished grid or a stopped one.
        data_name: the data set, for a sentence: "Fashion-MNIST".
        classes: how many.
        train, validation, test: images of each split; `train` those from which labels are drawn.
        command: repeats the run.
        machine, versions, seconds: where, with what, and how long it took in all.
        chosen_on: where `Trial.val_accuracy` comes from, in a clause.
        settings: name and text of what else was fixed: heads, recipes, views.
        pretraining_seconds: by encoder, where its folder tells.
        notes: anything else a reader should know, sentences.
        doubts: what a reader must know of the encoders before believing the verdict, sentences.
    """

    trials: Sequence[Trial]
    data_name: str
    classes: int
    train: int
    validation: int
    test: int
    command: str
    machine: str
    versions: Mapping[str, str]
    seconds: float
    chosen_on: str = "the validation split"
    settings: Mapping[str, str] = field(default_factory=dict)
    pretraining_seconds: Mapping[str, float] = field(default_factory=dict)
    notes: Sequence[str] = ()
    doubts: Sequence[str] = ()

    @property
    def encoders(self) -> list[str]:
        """The names of the pretrained encoders."""
        return list(dict.fromkeys(trial.encoder for trial in self.trials if trial.kind == "ours"))


def measured(results: EvidenceResults) -> list[str]:
    """How it was measured, a sentence each."""
    trials = results.trials
    seeds = sorted({trial.seed for trial in trials})
    held = f", {number(results.validation)} more are held out for validation" if results.validation else ""
    over = {one.difference.over for one in compare(trials)}
    told = [
        f"{results.data_name}, {results.classes} classes: labels are drawn from {number(results.train)} training images"
        f"{held}, and all figures are read on {number(results.test)} test images.",
        f"{counted(len(seeds), 'seed').capitalize()} ({', '.join(map(str, seeds))}). A seed draws the labelled images "
        "and the weights, the same for every method, so that differences are paired.",
        *_interval_words(over),
        "Floors: what needs no pretraining. At each budget the best floor is the one with the highest mean accuracy on "
        "the TEST split, which flatters the floor and never ours.",
        *_choice_words(results),
    ]
    told += [f"{name}: {text.rstrip('.')}." for name, text in results.settings.items()]
    return told + list(results.notes)


def _choice_words(results: EvidenceResults) -> list[str]:
    chosen = [best(results.trials, "ours", budget) for budget in budgets(results.trials)]
    by = {one.by for one in chosen if one is not None}
    told = []
    if "validation" in by:
        told.append(f"Ours is chosen at each budget by mean accuracy on {results.chosen_on}, never on the test split.")
    if "order" in by:
        told.append("Where no validation accuracy was measured, ours is the method listed first: nothing was chosen.")
    return told


def _interval_words(over: set[str]) -> list[str]:
    """How sure the differences are, by the kinds of their intervals."""
    seeds = "Student's t over the seeds"
    images = "a normal interval over the test images, of paired answers"
    told = {
        "seeds and images": f"{seeds} together with {images}",
        "seeds": f"{seeds}; other test images are not in it",
        "images": f"{images}; other draws of labels are not in it",
    }
    kinds = [told[kind] for kind in sorted(over) if kind]
    if not kinds:
        return ["There is no interval: one seed, and which test images were right is not known."] if over else []
    return [f"95\u00a0% intervals: {'; or '.join(kinds)}. Another pretraining of the same encoder is in none of them."]
