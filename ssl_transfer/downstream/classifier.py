"""Classes, labels and numbers of images, learnt on an encoder: frozen, fine-tuned or from scratch."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn

from ssl_transfer.data.batch import Batch
from ssl_transfer.data.randomness import KeyedRandom
from ssl_transfer.data.views import Views, to_float
from ssl_transfer.downstream.base import Downstream
from ssl_transfer.downstream.cached_front import CachedFront, cached_bytes
from ssl_transfer.downstream.compact import Compact
from ssl_transfer.downstream.fitted_classifier import FittedClassifier, targets_of, told_of
from ssl_transfer.downstream.guesses import guessed_labels
from ssl_transfer.downstream.heads import as_is_head, read_off
from ssl_transfer.downstream.targets import ClassTarget, Column, Judge, Target, Targets, check_choice
from ssl_transfer.downstream.targets.column import OWN_LABEL
from ssl_transfer.downstream.tuning import AsIs, Frozen, LinearThenFull, Tuning
from ssl_transfer.downstream.weight_average import WeightAverage
from ssl_transfer.encoders import EncoderSpec
from ssl_transfer.encoders.split import cut_points
from ssl_transfer.evaluation.features import Features, encode
from ssl_transfer.evaluation.gather import gather_features
from ssl_transfer.optimisation import Optimisation, ParameterGroup, total_steps
from ssl_transfer.pretraining.base import run_seed


class Classifier(Downstream):
    """A linear head on an encoder's features, for a class, several labels or a number an image, or some of each.

    Args:
        encoder: the folder of a pretrained encoder, an `EncoderSpec`, the name of a network, or a module.
        tuning: `Frozen` (default), `AsIs`, `Partial`, `Full`, `LinearThenFull`, `Gradual`, `Surgical`, `LoRA` or
            `Scratch`.
        optimisation: for heads and encoders that learn by gradient.
        views: training augmentation; `None`: none.
        label_smoothing: share of the target spread over all classes.
        mixup: images and targets of a batch are mixed in pairs, with shares drawn from Beta(mixup, mixup) (Zhang et
            al. 2018, https://arxiv.org/abs/1710.09412); 0: not.
        class_weights: `balanced`, so that every class counts alike however many images it has, or a weight by class
            name; `None`: every image counts alike.
        weight_average: decay of a moving average of the weights, which is what is scored and kept, such as 0.99;
            `None`: the weights themselves.
        targets: the columns of a manifest to learn, each by its name or as a `Target`, which says its kind and weight
            too; `label` is the source's own. Text and whole numbers are classes, other numbers are regression
            targets, lists are several labels. An image without one of them still teaches the others. `None`: the
            source's own label.

    All from `views` to `weight_average` are for training by gradient; a solved head takes `class_weights` alone.

    Example:
        >>> Classifier(encoder="resnet18", tuning=Frozen(l2=0.01)).tuning.l2
        0.01
    """

    targets: Targets
    head: nn.Module

    def __init__(
        self,
        encoder: EncoderSpec | str | nn.Module = "small_resnet",
        tuning: Tuning | None = None,
        optimisation: Optimisation | None = None,
        views: Views | None = None,
        label_smoothing: float = 0.0,
        mixup: float = 0.0,
        class_weights: Literal["balanced"] | dict[str, float] | None = None,
        weight_average: float | None = None,
        targets: list[str | Target] | None = None,
    ) -> None:
        super().__init__(encoder, tuning or Frozen())
        if not 0 <= label_smoothing < 1:
            raise ValueError(f"model.label_smoothing must be a share below 1, not {label_smoothing}")
        if mixup < 0:
            raise ValueError(f"model.mixup must be 0 (none) or more, not {mixup}")
        if weight_average is not None and not 0 < weight_average < 1:
            raise ValueError(f"model.weight_average must lie between 0 and 1, such as 0.99, not {weight_average}")
        if isinstance(class_weights, dict) and min(class_weights.values(), default=0.0) <= 0:
            raise ValueError(f"model.class_weights must all be above 0, not {class_weights}")
        if isinstance(class_weights, str) and class_weights != "balanced":
            raise ValueError(f"model.class_weights must be balanced or a weight by class name, not {class_weights!r}")
        if isinstance(self.tuning, Compact):
            raise ValueError("tuning Compact is an AnomalyDetector's: a Classifier takes Frozen, Full or another")
        check_choice(targets)
        self.chosen_targets = [targets]  # in a list, as `targets` are those that are built from it
        self.optimisation = optimisation or Optimisation(lr=1e-3, weight_decay=1e-3)
        self.views = views
        self.label_smoothing = label_smoothing
        self.mixup = mixup
        self.class_weights = class_weights
        self.weight_average = weight_average
        self.solves = isinstance(self.tuning, Frozen) and self.tuning.solve
        self._check_options()
        self.automatic_optimization = not self.solves
        self.selects_by = None if self.solves else "val/accuracy"
        self.rows: list[Tensor | None] = []  # each target's values by row of the store; None where a batch brings them
        self.guesses: Tensor | None = None  # rows of the store and the labels that are guessed for them, (N, 2)
        self.cached: dict[str, Features] = {}
        self.front: CachedFront | None = None
        self.average: WeightAverage | None = None
        self.remarks: list[str] = []  # what a user must know of the fit
        self.uneven = False  # whether steps, and processes in a step, may have unequally many labels
        self.labelled = False  # whether any batch since the last step of the optimiser had some

    def _check_options(self) -> None:
        """Options for training by gradient are refused where nothing is trained, rather than left unused."""
        given = {
            "views": self.views is not None,
            "label_smoothing": self.label_smoothing > 0,
            "mixup": self.mixup > 0,
            "weight_average": self.weight_average is not None,
        }
        for name, is_given in given.items():
            if self.solves and is_given:
                raise ValueError(
                    f"model.{name} is for training by gradient, and tuning {self.tuning.describe()} solves its head: "
                    "leave it out, or take Frozen with solve=false, or another tuning"
                )

    # building

    def configure_model(self) -> None:
        if hasattr(self, "encoder"):
            return
        data = self.trainer.datamodule  # type: ignore[attr-defined]
        if not hasattr(self, "targets"):
            self.targets = self._targets_of(data)
        if self.selects_by is not None:
            self.selects_by = self.targets.selects_by
        self.start_encoder(data)
        self.head = self._new_head()
        self.val_metrics = Judge(self.targets, "val")
        self.test_metrics = Judge(self.targets, "test", intervals=True)
        self.train(self.training)

    def _new_head(self) -> nn.Module:
        if not isinstance(self.tuning, AsIs):
            return nn.Linear(self.encoder.feature_dim, self.targets.width)
        if not isinstance(self.targets.single, ClassTarget):
            raise ValueError("tuning AsIs names one class an image; for other or several targets take Frozen")
        if self.class_weights is not None:
            raise ValueError("model.class_weights: tuning AsIs learns nothing; leave it out, or take Frozen")
        return as_is_head(self.encoder, self.targets.width)

    def _targets_of(self, data: Any) -> Targets:
        """What the source and `targets` ask for."""
        chosen = self.chosen_targets[0]
        if chosen is None and not Column.read(data, OWN_LABEL).present.any():
            raise ValueError(
                f"data.source {data.source} has no class labels, nor any other, and a Classifier needs them: "
                "use class folders, a manifest with a column 'label', or a labelled data set"
            )
        return Targets.of(data, chosen, self.label_smoothing, self.class_weights)

    @property
    def classes(self) -> list[str] | None:
        """The names of the classes or labels, in the order of the outputs, of the only target; None of several."""
        return self.targets.single.classes if self.targets.single else None

    def configure_optimizers(self) -> Any:
        if self.solves:
            return None
        head = ParameterGroup("head", self.head.parameters(), self.tuning.head_lr)
        return self.optimisation.configure([head, *self.tuning.groups(self.encoder)], total_steps(self.trainer))

    # fitting

    def on_fit_start(self) -> None:
        data = self.trainer.datamodule  # type: ignore[attr-defined]
        read = self._read_values()
        self.targets.check_splits(data, read)
        if data.label_budget is not None:
            self.selects_by = None  # a budget counts validation labels too
        fresh = not self.trainer.ckpt_path
        if self.tuning.unlabelled and not fresh and self.guesses is None:
            raise ValueError("model.tuning.unlabelled: this run was begun without it: leave it out, or begin a new run")
        if self.solves or self._caches_features or (fresh and (self.tuning.solves_head or self.tuning.unlabelled)):
            for split in ("train", "val"):
                if len(data.indices(split)):
                    self.cached[split] = gather_features(encode(self.encoder, data.loader(split), self.device))
        if self.tuning.unlabelled:
            self._take_guesses(read)
        present = self.targets.present([torch.as_tensor(values)[data.indices("train")] for values in self._all(read)])
        self.uneven = not bool(present.all())
        if self.solves or (self.tuning.solves_head and fresh):
            self._solve()
        if self.weight_average is not None and self.average is None:
            self.average = WeightAverage(self.weight_average, self)
        if self.tuning.trains_encoder or not (self.solves or self._caches_features):
            self.cached = {}  # features that will change
            self.front = self._cached_front()

    def _take_guesses(self, read: Sequence[np.ndarray]) -> None:
        """Spread the labels to the training split's unlabelled images: the first process, for all."""
        single = self.targets.single
        if not isinstance(single, ClassTarget):
            raise ValueError(
                f"tuning {type(self.tuning).__name__} with unlabelled=true spreads one class an image: with other "
                "targets leave it out"
            )
        if self.guesses is None:
            train, classes = self.cached["train"], len(single.classes)
            known = self._values(train)[0]
            self.guesses = self.from_first(lambda: guessed_labels(train, known, classes).cpu())
        assert self.guesses is not None
        rows = torch.from_numpy(read[0].copy())
        rows[self.guesses[:, 0]] = self.guesses[:, 1]
        self.rows = [rows.to(self.device)]

    def _all(self, read: list[np.ndarray]) -> list[np.ndarray | Tensor]:
        """Each target's values by row of the store, guessed ones among them."""
        return [own if rows is None else rows.cpu() for own, rows in zip(read, self.rows, strict=True)]

    @property
    def _caches_features(self) -> bool:
        """Whether a head learns by gradient on features that never change."""
        return not self.solves and not self.tuning.trains_encoder and self._same_images

    @property
    def _same_images(self) -> bool:
        """Whether an image goes into the network as the same every time."""
        return self.views is None and not self.mixup

    def _cached_front(self) -> CachedFront | None:
        """What the stages before the first that ever learns give of the training images, where it can be kept."""
        stage = self.tuning.first_stage(self.encoder, self.tuning.chosen(self.encoder))
        if not self._same_images or stage is None or stage not in cut_points(self.encoder):
            return None
        data = self.trainer.datamodule  # type: ignore[attr-defined]
        self.train()
        with torch.no_grad(), self.trainer.precision_plugin.train_step_context():
            example = torch.from_numpy(data.images(data.indices("train")[:2])).to(self.device)
            needed = cached_bytes(self.encoder, stage, len(data.indices("train")), example)
            if needed > data.memory_budget * 2**30:
                self.remarks.append(
                    f"what the frozen stages before {stage} give of all training images would take "
                    f"{needed / 2**30:.1f} GiB: it is computed anew in every epoch; raise data.memory_budget to keep it"
                )
                return None
            batches = self.with_progress(data.loader("train", everywhere=True), f"encoding up to {stage}")
            return CachedFront(self.encoder, stage, batches, self.device, len(data.indices("train")))

    def on_fit_end(self) -> None:
        self.cached, self.front = {}, None
        if self.average is not None and not self.average.swapped:
            self.average.swap(self)

    def optimizer_step(self, *args: Any, **kwargs: Any) -> None:
        super().optimizer_step(*args, **kwargs)
        if self.average is not None:
            self.average.update(self)

    def on_validation_start(self) -> None:
        self._check_classes()
        if self.trainer.state.fn != "fit":
            self._read_values()
        if self.average is not None and not self.average.swapped:
            self.average.swap(self)

    def on_validation_end(self) -> None:
        if self.average is not None and self.trainer.state.fn == "fit":
            self.average.swap(self)

    def training_step(self, batch: Batch, batch_idx: int) -> dict[str, Any]:
        values = self._values(batch)
        present = self.targets.present(values)  # (B, T)
        keep = present.any(1)
        count = int(keep.sum())
        shares = self._shares(present.sum(0))
        if count:
            losses = self._losses(batch, keep, [own[keep] for own in values])
            loss, shared = self.targets.total(losses), self.targets.total(losses * shares)
        else:
            loss = shared = self._no_loss()
        penalty = self.penalty()  # the same in every process
        loss, shared = loss + penalty, shared + penalty
        self.log("loss", loss, prog_bar=True, logger=False)
        self.log("train/loss", loss, on_step=False, on_epoch=True, batch_size=count, sync_dist=True)
        # The value stays this process's own; its gradient counts as much as its labels do.
        return {"loss": loss.detach() + (shared - shared.detach()), "count": count}

    def _losses(self, batch: Batch, keep: Tensor, values: Sequence[Tensor]) -> Tensor:
        """Each target's loss `(T,)`, of those images of the batch whose values are given."""
        if not self.mixup:
            shown = keep if len(values[0]) > 1 else torch.ones_like(keep)  # BatchNorm needs two images
            features = self._training_features(batch, shown)
            return self.targets.losses(self.head(features if shown is keep else features[keep]), values)
        share = float(torch.distributions.Beta(self.mixup, self.mixup).sample())
        partner = torch.randperm(len(values[0]), device=keep.device)
        images = self._training_images(batch, keep)
        outputs = self.head(self.encoder(share * images + (1 - share) * images[partner]))
        # A mixture of losses has the gradient of the loss of the mixed values, of numbers too.
        of_partner = self.targets.losses(outputs, [own[partner] for own in values])
        return share * self.targets.losses(outputs, values) + (1 - share) * of_partner

    def _no_loss(self) -> Tensor:
        """Zero, with a gradient of zero for every weight: other processes may wait for this one's gradients."""
        return torch.stack([0 * p.sum() for p in self.parameters() if p.requires_grad]).sum()

    def _shares(self, counts: Tensor) -> Tensor:
        """This process's values of each target `(T,)` in a step over the mean of all: what its gradient counts."""
        if not self.uneven:
            return torch.ones_like(counts, dtype=torch.float32)
        mean = self.trainer.strategy.reduce(counts.float().clone(), reduce_op="mean")
        assert isinstance(mean, Tensor)
        self.labelled |= bool(mean.any())
        return torch.where(mean > 0, counts / mean.clamp(min=1e-12), 0.0)

    def _read_values(self) -> list[np.ndarray]:
        """Each target's values of all images, kept by row of the store where a batch does not bring them."""
        data = self.trainer.datamodule  # type: ignore[attr-defined]
        own = data.table.targets
        read = self.targets.read(data)
        self.rows = [None if each is own else torch.from_numpy(each).to(self.device) for each in read]
        return read

    def _values(self, some: Batch | Features) -> list[Tensor]:
        """Each target's values `(B, …)` of some images."""
        return [some.targets if rows is None else rows[some.index] for rows in self.rows]

    def on_before_optimizer_step(self, optimizer: torch.optim.Optimizer) -> None:
        super().on_before_optimizer_step(optimizer)
        if self.uneven and not self.labelled:
            optimizer.zero_grad()  # neither momentum nor decay move the weights
        self.labelled = False

    def _training_features(self, batch: Batch, keep: Tensor) -> Tensor:
        if "train" in self.cached:
            return self._rows_of("train", batch.index[keep])
        if self.front is not None:
            return self.front.features(batch.index[keep])
        return self.encoder(self._training_images(batch, keep))

    def _training_images(self, batch: Batch, keep: Tensor) -> Tensor:
        images = batch.images[keep]
        if self.views is not None:
            return self.views(images, KeyedRandom(batch.index[keep], run_seed(), self.current_epoch))
        return to_float(images) if self.mixup else images

    def _rows_of(self, split: str, index: Tensor) -> Tensor:
        """Cached features of rows of the store; the cache is ordered by row, as `indices` are."""
        cached = self.cached[split]
        return cached.features[torch.searchsorted(cached.index, index)]

    def _solve(self) -> None:
        """Fit the head to convergence on the cached features: the first process, for all."""
        if isinstance(self.tuning, AsIs):
            self._read_off()
            return
        weight, bias, chosen = self.from_first(self._solution)
        self.head.load_state_dict({"weight": weight, "bias": bias})
        if None not in chosen:
            self.l2 = chosen[0] if self.targets.single else chosen

    def _read_off(self) -> None:
        """What a network says of itself, put into the words of the classes: the first process, for all."""
        train, single = self.cached["train"], self.targets.single
        assert single is not None
        given = (self.head, self.encoder, train.features, self._values(train)[0], single.classes)
        self.head.load_state_dict(self.from_first(lambda: read_off(*given).state_dict()))

    def _solution(self) -> tuple[Tensor, Tensor, list[float | None]]:
        """The head's weight `(W, D)` and bias `(W,)`, on the CPU, and each target's l2 if it was chosen."""
        tuning = self.tuning
        assert isinstance(tuning, Frozen | LinearThenFull)
        data = self.trainer.datamodule  # type: ignore[attr-defined]
        pairs = {split: (cached.features, self._values(cached)) for split, cached in self.cached.items()}
        held_out = pairs.get("val") if data.label_budget is None else None  # a budget counts validation labels too
        weight, bias, chosen = self.targets.solve(pairs["train"], held_out, tuning.l2)
        return weight.cpu(), bias.cpu(), chosen

    # evaluating

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        if self.cached.get("val") is not None:
            answers = self._answers(self._rows_of("val", batch.index))
        else:
            answers = self(batch.images)
        self.val_metrics.update(answers, self._values(batch))

    def on_validation_epoch_end(self) -> None:
        if figures := self.val_metrics.figures(self._anywhere):
            self.log_dict(figures, prog_bar=False, sync_dist=True)

    def test_step(self, batch: Batch, batch_idx: int) -> None:
        self.test_metrics.update(self(batch.images), self._values(batch))

    def on_test_epoch_end(self) -> None:
        figures = self.test_metrics.figures(self._anywhere)
        if not figures:
            raise ValueError("the test split has no labelled image: there is nothing to score")
        if self.test_metrics.confusion is not None:
            self.confusion = self.test_metrics.confusion
        self.log_dict(figures, sync_dist=True)

    def _anywhere(self, seen: bool) -> bool:
        """Whether any process has: each must take part in computing what they saw together."""
        return self.trainer.strategy.reduce_boolean_decision(seen, all=False)

    # predicting

    def forward(self, images: Tensor) -> Tensor:
        """Answers `(B, W)` about images `(B, C, H, W)`, uint8 or float in [0, 1]; always in float32.

        Of a class its probabilities `(B, K)`; of several targets those of all, side by side, and numbers in their unit.
        """
        with torch.autocast(images.device.type, enabled=False):
            return self._answers(self.encoder(images).float())

    def _answers(self, features: Tensor) -> Tensor:
        with torch.autocast(features.device.type, enabled=False):
            return self.targets.answer(self.head(features.float()))

    def predict_step(self, batch: Batch, batch_idx: int) -> dict[str, Tensor]:
        return {"index": batch.index, "scores": self(batch.images)}

    # saving

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint["targets"] = self.targets.describe()
        checkpoint["guesses"] = self.guesses
        if self.average is not None:
            self.average.save(checkpoint)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        self.guesses = checkpoint.get("guesses")
        if self.trainer.state.fn != "fit" or not (self.weight_average or "weight_average" in checkpoint):
            return
        if self.weight_average is None or "weight_average" not in checkpoint:
            had, has = ("with", "without") if self.weight_average is None else ("without", "with")
            raise ValueError(
                f"model.weight_average: this run was begun {had} it and cannot go on {has} it: give it as it was, or "
                "begin a new run"
            )
        self.average = WeightAverage(self.weight_average, self)
        self.average.resume(checkpoint)

    def learn_from(self, checkpoint: dict[str, Any], path: Path) -> None:
        """Take the targets with the names of their classes, so that images without labels can be predicted."""
        if checkpoint.get("targets") is None and checkpoint.get("classes") is None:
            raise ValueError(f"{path} was not written by the fit of a Classifier: give the folder of one")
        self.targets = targets_of(checkpoint)

    def fitted(self, data: dict[str, Any], metrics: dict[str, float]) -> FittedClassifier:
        config = {"tuning": self.tuning.describe(), "data": data, "metrics": metrics}
        return FittedClassifier(self.kept_encoder, self.head, config | told_of(self.targets))

    def columns(self, outputs: list[Any]) -> tuple[dict[str, Any], dict[str, str]]:
        """`prediction` and `scores` of one target (see `classes` in the notes), `NAME` and `NAME_scores` of several."""
        return self.targets.columns(torch.cat([output["scores"] for output in outputs]).float().cpu())

    def on_test_start(self) -> None:
        self._check_classes()
        self._read_values()

    def _check_classes(self) -> None:
        """ValueError for another set of classes than the fit's, where the source's own are all that is learnt."""
        data = self.trainer.datamodule  # type: ignore[attr-defined]
        single = self.targets.single
        if isinstance(single, ClassTarget) and single.name == OWN_LABEL and single.classes != data.classes:
            odd = sorted(set(single.classes) ^ set(data.classes or []))
            raise ValueError(
                f"the classes of data.source {data.source} differ from the {len(single.classes)} that the model was "
                f"fitted on: {', '.join(map(repr, odd[:5])) or 'another order'}; give the same classes"
            )
