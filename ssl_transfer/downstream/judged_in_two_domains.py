"""A classifier in two domains: whose statistics its BatchNorm layers hold, and what can be known of it in either."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor, nn

from ssl_transfer.data.batch import Batch
from ssl_transfer.downstream.adaptation import Adaptation, judging, statistics, verdict
from ssl_transfer.downstream.adaptation.alarms import alarms
from ssl_transfer.downstream.adaptation.base import Map
from ssl_transfer.downstream.adaptation.judging import Calibrated, Judged, judge
from ssl_transfer.downstream.classifier import Classifier


class JudgedInTwoDomains(Classifier):
    """A `Classifier` on a `DomainDataModule` that is judged in both domains, by no label of the target.

    Before it is judged and kept, BatchNorm's statistics are measured on the target, and for the source on the source.
    A subclass says how it learns, sets `method` and calls `begin` in its constructor.
    """

    method: Adaptation
    source_head: nn.Module  # where heads are solved
    steps: int  # of the fit

    def begin(self) -> None:
        """Call in the constructor."""
        self.compared: Calibrated | None = None  # the figures of what it is compared with
        self.doubts: list[str] = []  # about that comparison
        self.notes: list[str] = []  # what is to be known of the data, and is no fault
        self.judged: tuple[Judged, Judged] | None = None  # what the network makes of source and target now
        self.maps: tuple[Map, Map] | None = None  # of frozen features
        self._norms_measured_at = -1  # the step after which BatchNorm was measured

    @property
    def _data(self) -> Any:
        return self.trainer.datamodule  # type: ignore[attr-defined]

    def _of_target(self, index: Tensor) -> Tensor:
        """Which rows of the store are of the target."""
        return torch.from_numpy(self._data.is_target).to(index.device)[index]

    # statistics of the target

    def _moving_norms(self) -> list[Any]:
        """The BatchNorm layers whose statistics are measured: those that the tuning lets move."""
        if self.solves or not self.method.measures_norms:
            return []
        mode = self.training
        self.train()
        found = statistics.moving_norms(self.encoder)
        self.train(mode)
        return found

    def _measure_norms(self) -> None:
        """Let the encoder hold the target's statistics, once after a step."""
        if self._norms_measured_at != self.global_step and (norms := self._moving_norms()):
            statistics.measure(self.encoder, norms, self._data, self._data.domain("train", True))
        self._norms_measured_at = self.global_step

    def on_train_epoch_end(self) -> None:
        """Without a validation before it the checkpoint must hold them too."""
        if self.average is not None:
            self.average.swap(self)
        self._measure_norms()
        if self.average is not None:
            self.average.swap(self)

    # judging

    def on_validation_start(self) -> None:
        super().on_validation_start()  # where weights are averaged, these are judged
        if not hasattr(self._data, "is_target"):
            return
        if self.trainer.state.fn == "fit":
            self._measure_norms()
        norms = self._moving_norms()
        with statistics.restored(norms) if norms else nullcontext():
            if norms:
                statistics.measure(self.encoder, norms, self._data, self._data.domain("train", False))
            source = self._judge(False)
        self.judged = source, self._judge(True)

    def _judge(self, target: bool) -> Judged:
        """What the network makes of a domain's validation images."""
        head = self.source_head if self.solves and not target else self.head
        aligned = None if self.maps is None else self.maps[int(target)]
        return judge(self.encoder, head, self._data.domain_loader("val", target), self.device, aligned)

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        if self.judged is None:
            super().validation_step(batch, batch_idx)
            return
        source, own = self.judged[0], ~self._of_target(batch.index)
        if own.any():
            logits = source.logits[torch.searchsorted(source.index, batch.index[own])]
            self.val_metrics.update(self.targets.answer(logits), [values[own] for values in self._values(batch)])

    def on_validation_epoch_end(self) -> None:
        super().on_validation_epoch_end()
        if self.judged is None:
            return
        figures = judging.figures(*self.judged)
        if self.compared is not None:
            figures |= verdict.figures(Calibrated.of(*self.judged), self.compared)
        self.log_dict({f"val/{name}": value for name, value in figures.items()})

    def on_validation_end(self) -> None:
        super().on_validation_end()
        self.judged = None

    def alarms(self, figures: Mapping[str, float], kept: bool = False) -> dict[str, str]:
        """Warnings that an epoch's figures call for, by name. kept: whether it is the one whose network is kept."""
        if not kept and (self.steps == 1 or self.solves):
            return {}  # the adaptation has not begun, or is judged at its end
        return alarms(
            {**figures, "progress": self.global_step / self.steps}, kept, self.method.cure, self.method.spread
        )

    # saving

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        super().on_save_checkpoint(checkpoint)
        compared = None if self.compared is None else self.compared.state()
        checkpoint |= {"comparison": compared, "doubts": self.doubts, "maps": self.maps}

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        super().on_load_checkpoint(checkpoint)
        if checkpoint.get("comparison") is not None:
            self.compared = Calibrated.from_state(checkpoint["comparison"])
        self.doubts = checkpoint.get("doubts", [])
        self.maps = checkpoint.get("maps")
