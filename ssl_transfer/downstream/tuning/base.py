"""What every tuning strategy answers: where the encoder starts, what of it learns, when, and how fast."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, get_args

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from ssl_transfer.encoders import Encoder, EncoderSpec, build_encoder
from ssl_transfer.encoders.split import BOTTLENECK
from ssl_transfer.optimisation import ParameterGroup

BatchNorm = Literal["train", "frozen"]


class Tuning:
    """Base of the tuning strategies. By default everything learns; a subclass narrows `chosen` or `awake`.

    Parameters go by their names in `encoder.named_parameters()`.

    Attributes:
        trains_encoder: whether any weight of the encoder learns.
        encoder_lr: the encoder's learning rate as a share of the optimisation's; head_lr: the head's.
        layer_decay: a stage learns at this share of the rate of the stage behind it.
        batch_norm: BatchNorm in the stages that learn: `train` (statistics of the batch) or `frozen` (statistics as
            they are). Under a layer that does not learn statistics are always frozen.
        l2_sp: penalty for leaving the starting weights, see `Classifier`.
        solves_head: whether the head is solved on the features as they are before the encoder learns.
        unlabelled: whether labels are first spread to unlabelled training images, see `Frozen`.
    """

    trains_encoder: bool = True
    encoder_lr: float = 1.0
    head_lr: float = 1.0
    layer_decay: float = 1.0
    batch_norm: BatchNorm = "train"
    l2_sp: float = 0.0
    solves_head: bool = False
    unlabelled: bool = False

    def encoder(
        self,
        chosen: EncoderSpec | str | nn.Module,
        shape: tuple[int, int, int],
        mean: list[float],
        std: list[float],
    ) -> Encoder:
        """The encoder in the state in which training begins."""
        return build_encoder(chosen, shape, mean, std)

    def chosen(self, encoder: Encoder) -> set[str]:
        """The parameters that ever learn. ValueError if the strategy does not suit this encoder."""
        return {name for name, _ in encoder.named_parameters()} if self.trains_encoder else set()

    def awake(self, encoder: Encoder, epoch: int, epochs: int) -> set[str]:
        """The parameters that learn in an epoch, counted from 0, of so many (-1: nobody knows)."""
        return self.chosen(encoder)

    def groups(self, encoder: Encoder) -> list[ParameterGroup]:
        """Every parameter that ever learns, once: a group a stage, with its share of the learning rate."""
        chosen, names = self.chosen(encoder), names_of(encoder)
        stages = encoder.stages()
        groups = []
        for position, (stage, module) in enumerate(stages):
            members = [p for p in module.parameters() if names[id(p)] in chosen]
            factor = self.encoder_lr * self.layer_decay ** (len(stages) - 1 - position)
            if members:
                groups.append(ParameterGroup(f"encoder.{stage}", members, factor))
        return groups

    def set_modes(self, encoder: Encoder, awake: set[str]) -> None:
        """Training mode for what learns alone: no statistics move and nothing is dropped where weights stay put."""
        names = names_of(encoder)
        if awake.issuperset(names.values()) and names:
            encoder.train()
        else:
            encoder.eval()  # what lies between the stages too
        for _, stage in encoder.stages():
            stage.train(any(names[id(p)] in awake for p in stage.parameters()))
        for module in encoder.modules():
            own = [names[id(p)] for p in module.parameters(recurse=False)]
            held = self.batch_norm == "frozen" or not awake.issuperset(own)
            if isinstance(module, _BatchNorm) and held:
                module.eval()

    def first_stage(self, encoder: Encoder, awake: set[str]) -> str | None:
        """The first stage that learns: what lies before it is the same in every epoch. None if none does."""
        names = names_of(encoder)
        for stage, module in encoder.stages():
            if any(names[id(p)] in awake for p in module.parameters()):
                return stage
        return None

    def finished(self, encoder: Encoder) -> Encoder:
        """The encoder to keep: of the architecture it began with."""
        return encoder

    def describe(self) -> str:
        """The strategy in a word, for cards and tables."""
        return f"{type(self).__name__}{' with unlabelled images' if self.unlabelled else ''}"

    def _set_rates(
        self,
        encoder_lr: float,
        layer_decay: float = 1.0,
        batch_norm: BatchNorm = "train",
        l2_sp: float = 0.0,
        head_lr: float = 1.0,
    ) -> None:
        """Store what most strategies take, checked."""
        if encoder_lr <= 0:
            raise ValueError(f"tuning.encoder_lr must be above 0, not {encoder_lr}; for 0 use Frozen")
        if head_lr <= 0:
            raise ValueError(f"tuning.head_lr must be above 0, not {head_lr}")
        if not 0 < layer_decay <= 1:
            raise ValueError(f"tuning.layer_decay must lie above 0 and at most at 1 (no decay), not {layer_decay}")
        if batch_norm not in get_args(BatchNorm):
            raise ValueError(f"tuning.batch_norm must be {' or '.join(get_args(BatchNorm))}, not {batch_norm!r}")
        if l2_sp < 0:
            raise ValueError(f"tuning.l2_sp must be 0 or more, not {l2_sp}")
        self.encoder_lr, self.head_lr, self.layer_decay = encoder_lr, head_lr, layer_decay
        self.batch_norm, self.l2_sp = batch_norm, l2_sp


def check_l2(l2: float | None) -> float | None:
    """The penalty of a solved head, if it is one; ValueError otherwise."""
    if l2 is not None and l2 < 0:
        raise ValueError(f"tuning.l2 must be 0 or more, or null to choose it on held-out images, not {l2}")
    return l2


def names_of(encoder: nn.Module) -> dict[int, str]:
    """The names of an encoder's parameters by their identity."""
    return {id(parameter): name for name, parameter in encoder.named_parameters()}


def of_stages(encoder: Encoder, stages: Sequence[str]) -> set[str]:
    """The names of the parameters of some stages; a bottleneck goes with the last stage before it."""
    names, wanted = names_of(encoder), set(stages)
    if wanted.intersection(stage_names(encoder)[-1:]):
        wanted.add(BOTTLENECK)
    return {names[id(p)] for stage, module in encoder.stages() if stage in wanted for p in module.parameters()}


def stage_names(encoder: Encoder) -> list[str]:
    """The stages that have parameters, first to last; a bottleneck counts as a part of the last."""
    found = [name for name, stage in encoder.stages() if any(True for _ in stage.parameters())]
    return [name for name in found if name != BOTTLENECK]
