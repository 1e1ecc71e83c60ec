"""The pretraining objectives. An import here registers one: the command line then knows its short name."""

from ssl_transfer.pretraining.autoencoder import Autoencoder
from ssl_transfer.pretraining.base import Objective
from ssl_transfer.pretraining.denoising import DenoisingAutoencoder
from ssl_transfer.pretraining.rotation import RotationPrediction
from ssl_transfer.pretraining.simclr import SimCLR

__all__ = ["Autoencoder", "DenoisingAutoencoder", "Objective", "RotationPrediction", "SimCLR"]
