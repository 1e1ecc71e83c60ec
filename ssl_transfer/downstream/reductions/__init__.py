"""Reductions: scikit-learn style transformers from vectors to a few coordinates."""

from ssl_transfer.downstream.reductions.base import Reduction
from ssl_transfer.downstream.reductions.bottleneck import BottleneckAutoencoder
from ssl_transfer.downstream.reductions.pacmap import PaCMAP
from ssl_transfer.downstream.reductions.parametric_map import ParametricMap
from ssl_transfer.downstream.reductions.pca import PCA
from ssl_transfer.downstream.reductions.tsne import TSNE
from ssl_transfer.downstream.reductions.umap import UMAP

__all__ = ["PCA", "TSNE", "UMAP", "BottleneckAutoencoder", "PaCMAP", "ParametricMap", "Reduction"]
