"""Ways of adapting to a domain without labels. One file a method; an import here registers its short name."""

from ssl_transfer.downstream.adaptation.base import Adaptation as Adaptation
from ssl_transfer.downstream.adaptation.batch_norm import BatchNormStatistics as BatchNormStatistics
from ssl_transfer.downstream.adaptation.cdan import CDAN as CDAN
from ssl_transfer.downstream.adaptation.coral import CORAL as CORAL
from ssl_transfer.downstream.adaptation.dann import DANN as DANN
from ssl_transfer.downstream.adaptation.self_training import SelfTraining as SelfTraining
from ssl_transfer.downstream.adaptation.source_only import SourceOnly as SourceOnly
from ssl_transfer.downstream.adaptation.subspace_alignment import SubspaceAlignment as SubspaceAlignment
