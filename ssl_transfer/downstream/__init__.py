"""Downstream tasks on a pretrained encoder, and how they treat it."""

from ssl_transfer.downstream.classifier import Classifier
from ssl_transfer.downstream.model_folder import load_model
from ssl_transfer.downstream.tuning import Frozen, Full, Scratch, Tuning

__all__ = ["Classifier", "Frozen", "Full", "Scratch", "Tuning", "load_model"]
