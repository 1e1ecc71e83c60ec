"""What is learnt of an image: a class, several labels, a number, or some of each. One file a kind."""

from ssl_transfer.downstream.targets.base import TargetKind
from ssl_transfer.downstream.targets.column import Column
from ssl_transfer.downstream.targets.judge import Judge
from ssl_transfer.downstream.targets.multi_label import MultiLabelTarget
from ssl_transfer.downstream.targets.one_class import ClassTarget
from ssl_transfer.downstream.targets.regression import RegressionTarget
from ssl_transfer.downstream.targets.targets import Target, Targets, check_choice

__all__ = [
    "ClassTarget",
    "Column",
    "Judge",
    "MultiLabelTarget",
    "RegressionTarget",
    "Target",
    "TargetKind",
    "Targets",
    "check_choice",
]
