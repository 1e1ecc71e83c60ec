"""A classifier that learns in one domain and works in another, of which no label is known."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

from ssl_transfer.data.batch import Batch
from ssl_transfer.data.randomness import KeyedRandom
from ssl_transfer.data.views import Views
from ssl_transfer.downstream.adaptation import (
    DANN,
    Adaptation,
    BatchNormStatistics,
    SourceOnly,
    checks,
    comparison,
    judging,
    verdict,
)
from ssl_transfer.downstream.adaptation.base import Map, Reading, folded, mapped
from ssl_transfer.downstream.adaptation.gradient import GradientNorm
from ssl_transfer.downstream.adaptation.judging import Calibrated
from ssl_transfer.downstream.base import check_one_process
from ssl_transfer.downstream.fitted_classifier import FittedClassifier
from ssl_transfer.downstream.judged_in_two_domains import JudgedInTwoDomains
from ssl_transfer.downstream.tuning import Full, Tuning
from ssl_transfer.encoders import EncoderSpec
from ssl_transfer.optimisation import Optimisation, ParameterGroup, total_steps
from ssl_transfer.pretraining.base import run_seed

SOURCE_ROWS = (
    "images of data.source are answered with the BatchNorm statistics of data.target, and otherwise than "
    "val/accuracy says"
)
UNTRAINED = (
    "the encoder is frozen and its weights are random: give --model.encoder the DIR/encoder of a pretraining, or "
    "oriented_gradients, which is never trained"
)


class DomainAdapter(JudgedInTwoDomains):
    """Unsupervised domain adaptation: labels of a source domain, images alone of a target domain.

    Args:
        encoder: the folder of a pretrained encoder, an `EncoderSpec`, the name of a network, or a module.
        method: how the target's images help: `SourceOnly`, `BatchNormStatistics`, `CORAL`, `SubspaceAlignment`,
            `DANN` (default), `CDAN`, `SelfTraining`.
        tuning: how the encoder is treated; `Frozen` for methods that align features, another for those that teach the
            encoder. By default `Full(encoder_lr=1, layer_decay=1)`, which suits a network without weights.
        optimisation, views, label_smoothing, weight_average: as of a `Classifier`.
        compare_with: the `DIR/model` of another fit on the same source, such as one of `SourceOnly`, that the adapted
            network is compared with, without a label of the target. None: of frozen features a head that is solved on
            the source alone; where the encoder learns there is then no comparison, as any training changes much.
        select_by: the validator that chooses the epoch, none of which reads a label of the target: `bnm` (default),
            `information_maximisation`, `snd`, `target_entropy`, `dev` or `source_risk`; `None`: the last epoch. `bnm`
            asks for sure answers and for all classes, where most see but one of the two; it is one of three validators
            of which two led over a million checkpoints (Musgrave et al. 2022, https://arxiv.org/abs/2208.07360).

    The DataModule is a `DomainDataModule`. No label of the target is read in the fit. Where a method measures
    BatchNorm's statistics, each domain is judged by its own, and the target's are kept. After each epoch there are
    `val/accuracy`, of the source's validation images, and all validators; `test` reads the target's test images.

    >>> DomainAdapter(method=DANN(hidden=50)).method.hidden
    50
    """

    method_heads: nn.Module

    def __init__(
        self,
        encoder: EncoderSpec | str | nn.Module = "small_resnet",
        method: Adaptation | None = None,
        tuning: Tuning | None = None,
        optimisation: Optimisation | None = None,
        views: Views | None = None,
        label_smoothing: float = 0.0,
        weight_average: float | None = None,
        select_by: str | None = "bnm",
        compare_with: str | None = None,
    ) -> None:
        super().__init__(
            encoder,
            tuning or Full(encoder_lr=1.0, layer_decay=1.0),
            optimisation or Optimisation(lr=1e-3, weight_decay=1e-3),
            views,
            label_smoothing,
            weight_average=weight_average,
        )
        self.method = method or DANN()
        checks.check_pair(self.method, self.tuning, self.solves, self.views is not None)
        if select_by is not None and select_by not in judging.NAMES:
            raise ValueError(f"model.select_by must be {' or '.join(judging.NAMES)}, or null, not {select_by!r}")
        self.select_by, self.compare_with = select_by, compare_with
        self.begin()
        self._batch = 0  # of the epoch, of which views have random numbers of their own

    def configure_model(self) -> None:
        if hasattr(self, "encoder"):
            return
        if self.trainer.state.fn == "fit":
            checks.check_data(self._data)
        super().configure_model()
        self.selects_by = None if self.solves or self.select_by is None else f"val/{self.select_by}"
        self.method_heads = self.method.heads(self.encoder.feature_dim, self.targets.width)
        if self.solves:  # source features have a map of their own, and so a head
            self.source_head = nn.Linear(self.encoder.feature_dim, self.targets.width).requires_grad_(False)

    def configure_optimizers(self) -> Any:
        if self.solves:
            return None
        head = ParameterGroup("head", self.head.parameters(), self.tuning.head_lr)
        groups: list[nn.Module | ParameterGroup] = [head, self.method_heads, *self.tuning.groups(self.encoder)]
        return self.optimisation.configure(groups, total_steps(self.trainer))

    def check_before(self, data: Any) -> None:
        """ValueError for what can be refused before an image is read."""
        checks.check_data(data)
        if self.compare_with is not None:
            comparison.load(self.compare_with)

    def check_ready(self, data: Any) -> None:
        """ValueError for a comparison that does not suit the data, before anything is written."""
        if self.compare_with is not None:
            comparison.open_model(self.compare_with, data)

    def on_fit_start(self) -> None:
        check_one_process(self.trainer.world_size, "a DomainAdapter")
        self.notes = checks.remarks(self._data)
        for note in self.notes:
            self.print(f"note: {note}")
        if self._data.label_budget is not None and self.select_by in judging.READS_LABELS and not self.solves:
            raise ValueError(
                f"model.select_by {self.select_by} reads labels of validation images, which data.label_budget counts "
                "too: take bnm, or leave the budget out"
            )
        chosen = self.selects_by
        super().on_fit_start()
        self.selects_by = chosen  # a label budget forbids a choice by labels alone
        self.uneven = False  # each batch has labels: those of its source half
        self.domains = torch.from_numpy(self._data.is_target).to(self.device)
        self.steps = 1 if self.solves else total_steps(self.trainer)
        if isinstance(self.method, BatchNormStatistics) and not self._moving_norms():
            raise ValueError(
                f"method BatchNormStatistics: tuning {self.tuning.describe()} leaves no BatchNorm layer of the encoder "
                "whose statistics move; take another method, or an encoder with BatchNorm and batch_norm train"
            )
        if self.compared is None or self.solves:  # else it came with the checkpoint
            self.doubts = comparison.doubts(self.compare_with, self._data)
            self.compared = self._compare()
        self.remarks += self.doubts
        if not self.tuning.trains_encoder and checks.untrained(self.chosen_encoder[0]):
            self.remarks.append(UNTRAINED)
            self.print(f"warning: {UNTRAINED}")

    def _compare(self) -> Calibrated | None:
        """The figures of what the network is compared with; None where there is no verdict."""
        if comparison.why_none(self.solves, self.compare_with, self._data):
            return None
        if self.compare_with is not None:
            return comparison.figures_of(self.compare_with, self._data, self.device)
        if isinstance(self.method, SourceOnly):
            return None
        weight, bias, _ = self._solved_on_source(None)
        return comparison.figures_without(self.encoder, (weight, bias), self._data, self.device)

    def verdict(self, figures: Mapping[str, float]) -> str:
        """A line on whether adapting helped, of the figures of the epoch that is kept; empty of the floor itself."""
        if self.compare_with is None and isinstance(self.method, SourceOnly):
            return ""
        other = self.compare_with or "a head on the same features that is solved on the source alone"
        return verdict.line(figures, other, comparison.why_none(self.solves, self.compare_with, self._data))

    @property
    def _same_images(self) -> bool:
        return self.solves  # the domains go through the network one by one, not through a kept front

    # learning

    def training_step(self, batch: Batch, batch_idx: int) -> dict[str, Any]:
        if self.solves:
            return self._loss_of_solved(batch)
        self._batch = batch_idx
        is_target = self.domains[batch.index]
        source = self._read(batch, ~is_target)
        target = self._read_target(batch, is_target) if self.method.uses_target else source
        scale = self.trainer.accumulate_grad_batches
        of_classes, of_adaptation = (GradientNorm(self.device, scale) for _ in range(2))
        known = [own[~is_target] for own in self._values(batch)]
        supervised = self.targets.loss(of_classes.through(source.logits), known)
        progress = self.global_step / self.steps
        watched = of_adaptation.of(source), of_adaptation.of(target)
        added, figures = self.method.loss(self.method_heads, *watched, progress)
        loss = supervised + added + self.penalty()
        told = {"source_loss": supervised.detach(), "adaptation_loss": added.detach(), **figures}
        self.log("loss", loss, prog_bar=True, logger=False)
        self.log_dict(
            {f"train/{name}": value for name, value in {"loss": loss.detach(), **told}.items()},
            on_step=False,
            on_epoch=True,
            batch_size=len(is_target),
        )
        if self.method.uses_target:
            # Filled by the backward pass, before anyone reads them.
            told |= {"adaptation_gradient": of_adaptation.value, "classification_gradient": of_classes.value}
        return {"loss": loss, "count": len(is_target), **told}

    def _read(self, batch: Batch, keep: Tensor, views: Views | None = None) -> Reading:
        """What the network makes of some images of a batch, normalised by their own statistics."""
        images = self._training_images(batch, keep) if views is None else self._viewed(batch, keep, views)
        features = self.encoder(images)
        return Reading(features, self.head(features))

    def _read_target(self, batch: Batch, keep: Tensor) -> Reading:
        """What it makes of target images, which may have views of the method's own, and be read without any too."""
        reading = self._read(batch, keep, self.method.views)
        if self.method.reads_plain:
            reading.plain = self._plain(batch.images[keep])
        return reading

    def _training_images(self, batch: Batch, keep: Tensor) -> Tensor:
        return batch.images[keep] if self.views is None else self._viewed(batch, keep, self.views)

    def _viewed(self, batch: Batch, keep: Tensor, views: Views) -> Tensor:
        """Views of some images, other ones whenever an image of the smaller domain comes round again in an epoch."""
        index = batch.index[keep]
        again = index + len(self.domains) * earlier(index)
        return views(batch.images[keep], KeyedRandom(again, run_seed(), self.current_epoch, stream=self._batch))

    @torch.no_grad()
    def _plain(self, images: Tensor) -> Tensor:
        """Logits of images without views, of the average of the weights where there is one (Tarvainen and Valpola
        2017, https://arxiv.org/abs/1703.01780)."""
        values = {} if self.average is None else self.average.values
        names = {name for name, _ in self.named_parameters()}
        for part in ("encoder", "head"):
            start = f"{part}."
            own = {n.removeprefix(start): v for n, v in values.items() if n.startswith(start) and n in names}
            images = functional_call(getattr(self, part), own, images)
        return images

    # solving

    def _solution(self) -> tuple[Tensor, Tensor, list[float | None]]:
        """The head on the target's features: solved on aligned source features, with the target's map folded in."""
        if not self.solves:
            return super()._solution()
        train = self.cached["train"]
        of_target = self._of_target(train.index)
        source, target = (train.features[keep].double().cpu() for keep in (~of_target, of_target))
        self.maps = self.method.align(source, target)
        weight, bias, chosen = self._solved_on_source(self.maps[0])
        of_source, on_target = (folded(weight.double(), bias.double(), of) for of in self.maps)
        self.source_head.load_state_dict({"weight": of_source[0].float(), "bias": of_source[1].float()})
        return on_target[0].float(), on_target[1].float(), chosen

    def _solved_on_source(self, of: Map | None) -> tuple[Tensor, Tensor, list[float | None]]:
        """Weight, bias and l2 of a head on the source's cached features, mapped."""
        pairs = {}
        for split, cached in self.cached.items():
            own = ~self._of_target(cached.index)
            features = cached.features[own]
            pairs[split] = (features if of is None else mapped(features, of), [v[own] for v in self._values(cached)])
        held_out = pairs.get("val") if self._data.label_budget is None else None
        weight, bias, chosen = self.targets.solve(pairs["train"], held_out, getattr(self.tuning, "l2", None))
        return weight.cpu(), bias.cpu(), chosen

    def _loss_of_solved(self, batch: Batch) -> dict[str, Any]:
        keep = ~self._of_target(batch.index)
        features, values = self._rows_of("train", batch.index[keep]), [own[keep] for own in self._values(batch)]
        loss = self.targets.loss(self.source_head(features), values)
        self.log("train/loss", loss, on_step=False, on_epoch=True, batch_size=int(keep.sum()))
        return {"loss": loss, "count": int(keep.sum())}

    # testing, predicting and saving

    def on_test_start(self) -> None:
        super().on_test_start()
        if hasattr(self._data, "is_target"):
            checks.check_test(self._data)

    def predict_step(self, batch: Batch, batch_idx: int) -> dict[str, Tensor]:
        """As of a `Classifier`; of solved heads source images are answered by the source's."""
        outputs = super().predict_step(batch, batch_idx)
        if self.solves and hasattr(self._data, "is_target") and (~(of_target := self._of_target(batch.index))).any():
            with torch.autocast(self.device.type, enabled=False):
                logits = self.source_head(self.exact_features(batch.images[~of_target]))
            outputs["scores"][~of_target] = self.targets.answer(logits)
        return outputs

    def fitted(self, data: dict[str, Any], metrics: dict[str, float]) -> FittedClassifier:
        fitted = super().fitted(data, metrics)
        fitted.config["method"] = type(self.method).__name__
        return fitted

    def columns(self, outputs: list[Any]) -> tuple[dict[str, Any], dict[str, str]]:
        """As of a `Classifier`, and `domain`, source or target, where the images are of both."""
        columns, notes = super().columns(outputs)
        if hasattr(self._data, "is_target"):
            index = torch.cat([output["index"] for output in outputs]).cpu()
            of_target = self._of_target(index)
            names = ["target" if each else "source" for each in of_target.tolist()]
            columns = {"domain": names, **columns}
            if self._moving_norms() and not of_target.all():
                notes = {**notes, "source_rows": SOURCE_ROWS}
                self.print(SOURCE_ROWS)
        return columns, notes


def earlier(index: Tensor) -> Tensor:
    """How often each number `(B,)` stands before its own place.

    >>> earlier(torch.tensor([7, 3, 7, 7])).tolist()
    [0, 0, 1, 2]
    """
    return (index[:, None] == index).tril(-1).sum(1)
