"""Image classification on an encoder: frozen, fine-tuned or from scratch."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchmetrics.classification import MulticlassConfusionMatrix

from ssl_transfer.data.batch import Batch
from ssl_transfer.data.randomness import KeyedRandom, mix_integers
from ssl_transfer.data.views import Views
from ssl_transfer.downstream.base import Downstream
from ssl_transfer.downstream.compact import Compact
from ssl_transfer.downstream.fitted_classifier import FittedClassifier
from ssl_transfer.downstream.tuning import Frozen, Tuning
from ssl_transfer.encoders import EncoderSpec
from ssl_transfer.evaluation.features import Features, encode
from ssl_transfer.evaluation.gather import gather_features
from ssl_transfer.evaluation.metrics import classification_metrics, wilson_interval
from ssl_transfer.evaluation.probes import select_logistic, solve_logistic
from ssl_transfer.optimisation import Optimisation, total_steps
from ssl_transfer.pretraining.base import run_seed


class Classifier(Downstream):
    """A linear head on an encoder's features.

    Args:
        encoder: the folder of a pretrained encoder, an `EncoderSpec`, the name of a network, or a module.
        tuning: `Frozen` (default), `Full` or `Scratch`.
        optimisation: for heads and encoders that learn by gradient.
        views: training augmentation when the encoder learns; `None`: none.
        label_smoothing: share of the target spread over all classes, for training by gradient.

    Example:
        >>> Classifier(encoder="resnet18", tuning=Frozen(l2=0.01)).tuning.l2
        0.01
    """

    classes: list[str]

    def __init__(
        self,
        encoder: EncoderSpec | str | nn.Module = "small_resnet",
        tuning: Tuning | None = None,
        optimisation: Optimisation | None = None,
        views: Views | None = None,
        label_smoothing: float = 0.0,
    ) -> None:
        super().__init__(encoder, tuning or Frozen())
        if not 0 <= label_smoothing < 1:
            raise ValueError(f"model.label_smoothing must be a share below 1, not {label_smoothing}")
        if isinstance(self.tuning, Compact):
            raise ValueError("tuning Compact is an AnomalyDetector's: a Classifier takes Frozen, Full or Scratch")
        self.optimisation = optimisation or Optimisation(lr=1e-3, weight_decay=1e-3)
        self.views = views
        self.label_smoothing = label_smoothing
        self.solves = isinstance(self.tuning, Frozen) and self.tuning.solve
        self.automatic_optimization = not self.solves
        self.selects_by = None if self.solves else "val/accuracy"
        self.cached: dict[str, Features] = {}
        self.uneven = False  # whether steps, and processes in a step, may have unequally many labels
        self.labelled = False  # whether any batch since the last step of the optimiser had some

    # building

    def configure_model(self) -> None:
        if hasattr(self, "encoder"):
            return
        data = self.trainer.datamodule  # type: ignore[attr-defined]
        if not hasattr(self, "classes") and not data.num_classes:
            raise ValueError(
                f"data.source {data.source} has no class labels and a Classifier needs them: "
                "use class folders, a manifest with a column 'label', or a labelled data set"
            )
        if data.table.targets.ndim != 1 and not hasattr(self, "classes"):
            raise ValueError(
                f"data.source {data.source} has several labels an image and a Classifier takes one: "
                "give a column 'label' of single values"
            )
        if not hasattr(self, "classes") and data.num_classes < 2:
            raise ValueError(
                f"data.source {data.source} has one class only, {data.classes[0]!r}: a Classifier needs at least two"
            )
        torch.manual_seed(run_seed())
        encoder = self.tuning.encoder(self.chosen_encoder[0], data.shape, data.mean, data.std)
        self.encoder = encoder.requires_grad_(self.tuning.trains_encoder)
        if not hasattr(self, "classes"):
            self.classes = list(data.classes)
        self.head = nn.Linear(self.encoder.feature_dim, len(self.classes))
        self.val_metrics = classification_metrics(len(self.classes), "val/")
        self.test_metrics = classification_metrics(len(self.classes), "test/")
        self.test_confusion = MulticlassConfusionMatrix(len(self.classes))
        self.train(self.training)

    def configure_optimizers(self) -> Any:
        if self.solves:
            return None
        total = total_steps(self.trainer)
        if not self.tuning.trains_encoder:
            return self.optimisation.configure([self.head], total)
        return self.optimisation.configure([self.head, self.encoder], total, lr_factors=[1.0, self.tuning.encoder_lr])

    # fitting

    def on_fit_start(self) -> None:
        self._check_labels()
        data = self.trainer.datamodule  # type: ignore[attr-defined]
        if data.label_budget is not None:
            self.selects_by = None  # a budget counts validation labels too
        unlabelled = np.asarray(data.table.targets)[data.indices("train")] < 0
        self.uneven = bool(unlabelled.any())
        if self.tuning.trains_encoder:
            return
        for split in ("train", "val"):
            if len(data.indices(split)):
                self.cached[split] = gather_features(encode(self.encoder, data.loader(split), self.device))
        if self.solves:
            self._solve()

    def on_fit_end(self) -> None:
        self.cached = {}

    def on_train_batch_start(self, batch: Batch, batch_idx: int) -> None:
        torch.manual_seed(mix_integers(run_seed(), self.current_epoch, batch_idx, self.global_rank))  # for dropout

    def training_step(self, batch: Batch, batch_idx: int) -> dict[str, Any]:
        keep = batch.targets >= 0
        count = int(keep.sum())
        share = self._share(count)
        loss = self._loss(batch, keep) if count else self._no_loss()
        self.log("loss", loss, prog_bar=True, logger=False)
        self.log("train/loss", loss, on_step=False, on_epoch=True, batch_size=count, sync_dist=True)
        # The value stays this process's own; its gradient counts as much as its labels do.
        return {"loss": loss.detach() + share * (loss - loss.detach()), "count": count}

    def _loss(self, batch: Batch, keep: Tensor) -> Tensor:
        logits = self.head(self._training_features(batch, keep))
        return F.cross_entropy(logits, batch.targets[keep], label_smoothing=self.label_smoothing)

    def _no_loss(self) -> Tensor:
        """Zero, with a gradient of zero for every weight: other processes may wait for this one's gradients."""
        return torch.stack([0 * p.sum() for p in self.parameters() if p.requires_grad]).sum()

    def _share(self, count: int) -> float:
        """This process's labels in a step over the mean of all processes: what its gradient counts in theirs."""
        if not self.uneven:
            return 1.0
        mean = float(self.trainer.strategy.reduce(torch.tensor(float(count), device=self.device), reduce_op="mean"))
        self.labelled |= mean > 0
        return count / mean if mean else 0.0

    def on_before_optimizer_step(self, optimizer: torch.optim.Optimizer) -> None:
        if self.uneven and not self.labelled:
            optimizer.zero_grad()  # neither momentum nor decay move the weights
        self.labelled = False

    def _training_features(self, batch: Batch, keep: Tensor) -> Tensor:
        if not self.tuning.trains_encoder:
            return self._rows_of("train", batch.index[keep])
        images = batch.images[keep]
        if self.views is None:
            return self.encoder(images)
        return self.encoder(self.views(images, KeyedRandom(batch.index[keep], run_seed(), self.current_epoch)))

    def _rows_of(self, split: str, index: Tensor) -> Tensor:
        """Cached features of rows of the store; the cache is ordered by row, as `indices` are."""
        cached = self.cached[split]
        return cached.features[torch.searchsorted(cached.index, index)]

    def _solve(self) -> None:
        """Fit the head to convergence on the cached features: the first process, for all."""
        solution: Any = self._solution() if self.trainer.is_global_zero else None
        weight, bias, l2 = self.trainer.strategy.broadcast(solution)
        with torch.no_grad():
            self.head.weight.copy_(weight)
            self.head.bias.copy_(bias)
        if l2 is not None:
            self.l2 = l2

    def _solution(self) -> tuple[Tensor, Tensor, float | None]:
        """The head's weight `(K, D)` and bias `(K,)`, on the CPU, and the l2 that was chosen, if it was."""
        tuning = self.tuning
        assert isinstance(tuning, Frozen)
        l2 = None
        train = self.cached["train"].labelled()
        data = self.trainer.datamodule  # type: ignore[attr-defined]
        within_budget = data.label_budget is None and "val" in self.cached
        held_out = self.cached["val"].labelled() if within_budget else None
        pair = (train.features, train.targets)
        if tuning.l2 is not None:
            head = solve_logistic(*pair, len(self.classes), tuning.l2)
        else:
            validation = (held_out.features, held_out.targets) if held_out is not None else None
            head, l2 = select_logistic(pair, validation, len(self.classes))
        return head.weight.cpu(), head.bias.cpu(), l2

    def _check_labels(self) -> None:
        data = self.trainer.datamodule  # type: ignore[attr-defined]
        targets = np.asarray(data.table.targets)
        seen = set(targets[data.indices("train")].tolist())
        for split in data.stated_splits:  # one that we drew may hold a rare class alone
            for target in sorted(set(targets[data.indices(split)].tolist()) - seen - {-1}):
                raise ValueError(
                    f"data.source {data.source}: class {data.classes[target]!r} occurs in the {split} split but no "
                    "training image has it: correct the label, or add training images of the class"
                )

    # evaluating

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        if self.cached.get("val") is not None:
            probabilities = self._probabilities(self._rows_of("val", batch.index))
        else:
            probabilities = self(batch.images)
        self._update(self.val_metrics, probabilities, batch)

    def on_validation_epoch_end(self) -> None:
        if self._anywhere(any(metric.update_called for metric in self.val_metrics.values())):
            self.log_dict(_of_all(self.val_metrics), prog_bar=False, sync_dist=True)
            self.val_metrics.reset()

    def test_step(self, batch: Batch, batch_idx: int) -> None:
        probabilities = self(batch.images)
        if self._update(self.test_metrics, probabilities, batch):
            keep = batch.targets >= 0
            self.test_confusion.update(probabilities[keep], batch.targets[keep])

    def on_test_epoch_end(self) -> None:
        if not self._anywhere(self.test_confusion.update_called):
            raise ValueError("the test split has no labelled image: there is nothing to score")
        values = _of_all(self.test_metrics)
        self.confusion = _of_all(self.test_confusion).long().cpu()
        low, high = wilson_interval(float(values["test/accuracy"]), int(self.confusion.sum()))
        self.log_dict({**values, "test/accuracy_low": low, "test/accuracy_high": high}, sync_dist=True)
        self.test_metrics.reset()
        self.test_confusion.reset()

    def _anywhere(self, seen: bool) -> bool:
        """Whether any process has: each must take part in computing what they saw together."""
        return self.trainer.strategy.reduce_boolean_decision(seen, all=False)

    def _update(self, metrics: Any, probabilities: Tensor, batch: Batch) -> bool:
        keep = batch.targets >= 0
        if keep.any():
            metrics.update(probabilities[keep], batch.targets[keep])
        return bool(keep.any())

    # predicting

    def forward(self, images: Tensor) -> Tensor:
        """Class probabilities `(B, K)` of images `(B, C, H, W)`, uint8 or float in [0, 1]; always in float32."""
        with torch.autocast(images.device.type, enabled=False):
            return self._probabilities(self.encoder(images).float())

    def _probabilities(self, features: Tensor) -> Tensor:
        with torch.autocast(features.device.type, enabled=False):
            return self.head(features.float()).softmax(1)

    def predict_step(self, batch: Batch, batch_idx: int) -> dict[str, Tensor]:
        return {"index": batch.index, "scores": self(batch.images)}

    # saving

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint["classes"] = self.classes

    def learn_from(self, checkpoint: dict[str, Any], path: Path) -> None:
        """Take the class names, so that images without labels can be predicted."""
        if checkpoint.get("classes") is None:
            raise ValueError(f"{path} was not written by the fit of a Classifier: give the folder of one")
        self.classes = list(checkpoint["classes"])

    def fitted(self, data: dict[str, Any], metrics: dict[str, float]) -> FittedClassifier:
        tuning = type(self.tuning).__name__
        config = {"tuning": tuning, "classes": self.classes, "data": data, "metrics": metrics}
        return FittedClassifier(self.encoder, self.head, config)

    def columns(self, outputs: list[Any]) -> tuple[dict[str, Any], dict[str, str]]:
        """`prediction` (a class name) and `scores` (a probability for each class, in the order of `classes`)."""
        scores = torch.cat([output["scores"] for output in outputs]).float().cpu()
        predictions = [self.classes[i] for i in scores.argmax(1).tolist()]
        return {"prediction": predictions, "scores": scores}, {"classes": "\n".join(self.classes)}

    def on_test_start(self) -> None:
        self._check_classes()

    def on_validation_start(self) -> None:
        self._check_classes()

    def _check_classes(self) -> None:
        data = self.trainer.datamodule  # type: ignore[attr-defined]
        if self.classes != data.classes:
            odd = sorted(set(self.classes) ^ set(data.classes or []))
            raise ValueError(
                f"the classes of data.source {data.source} differ from the {len(self.classes)} that the model was "
                f"fitted on: {', '.join(map(repr, odd[:5])) or 'another order'}; give the same classes"
            )


def _of_all(metrics: Any) -> Any:
    """What metrics amount to over all processes, of which some may have seen nothing."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="The ``compute`` method of metric .* was called before")
        return metrics.compute()
