"""skada and pytorch-adapt, as `adaptation_peers.py` runs them: the published network, the same images and batches."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from published_dann import Convolutions, label_head
from torch import Tensor, nn

WIDTH, CLASSES, HIDDEN = 768, 10, 100  # features, classes, and the domain classifier's hidden layer
SOURCE, TARGET = 1, -2  # how skada marks the domains
NO_LABEL = -1


@dataclass
class Domains:
    """Normalised images `(N, 3, 28, 28)` float32 of the source, with labels `(N,)`, and of the target."""

    source: Tensor
    labels: Tensor
    target: Tensor


@dataclass
class Recipe:
    """What all sides share. batch: images of one domain; steps: of the whole fit."""

    batch: int
    epochs: int
    lr: float

    def steps(self, images: int) -> int:
        return self.epochs * (images // self.batch)


class Network(nn.Module):
    """The published network as one module, called as skada calls it."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = Convolutions()
        self.head = label_head(WIDTH, CLASSES)

    def forward(self, x: Tensor, sample_weight: Any = None) -> Tensor:
        logits: Tensor = self.head(self.encoder(x))
        return logits


Fitted = tuple[nn.Module, dict[str, float]]  # network, and the figures of its fit


def skada(method: str, domains: Domains, recipe: Recipe, sigmoid: bool) -> Fitted:
    """skada's network, fitted; sigmoid: its domain classifier ends in one, in place of its softmax of one logit."""
    from skorch.callbacks import LRScheduler

    steps = recipe.steps(len(domains.target))
    options: dict[str, Any] = {
        "layer_name": "encoder",
        "optimizer": torch.optim.AdamW,
        "optimizer__weight_decay": 0.0,
        "lr": recipe.lr,
        "batch_size": recipe.batch,
        "max_epochs": recipe.epochs,
        "train_split": None,
        "callbacks": [LRScheduler("CosineAnnealingLR", T_max=steps, step_every="batch")],
        "verbose": 0,
    }
    net = skada_net(method, sigmoid, options)
    images = torch.cat([domains.source, domains.target]).numpy()
    labels = np.concatenate([domains.labels.numpy(), np.full(len(domains.target), NO_LABEL)])
    marks = np.repeat([SOURCE, TARGET], [len(domains.source), len(domains.target)])
    started = time.process_time()
    net.fit(images, labels, sample_domain=marks)
    figures = {"seconds": time.process_time() - started}
    classifier = net.module_.domain_classifier_
    if classifier is not None:  # what the last step's backward pass left
        figures["domain_gradient"] = float(classifier.classifier[0].weight.grad.norm())
    return net.module_.base_module_, figures


def skada_net(method: str, sigmoid: bool, options: dict[str, Any]) -> Any:
    """The estimator of a method, with its defaults but for `options`."""
    from skada.deep import CDAN, DANN, DeepCoral
    from skada.deep.modules import DomainClassifier

    if method == "coral":
        return DeepCoral(Network(), **options)
    width = WIDTH if method == "dann" else 4096  # above which its CDAN projects at random
    classifier = DomainClassifier(num_features=width)
    if sigmoid:
        classifier.classifier[-1] = nn.Sigmoid()
    return {"dann": DANN, "cdan": CDAN}[method](Network(), domain_classifier=classifier, **options)


def pytorch_adapt(method: str, domains: Domains, recipe: Recipe) -> Fitted:
    """pytorch-adapt's hook and data set in a plain loop, as its documentation has it."""
    from pytorch_adapt.datasets import CombinedSourceAndTargetDataset, SourceDataset, TargetDataset

    source = SourceDataset(torch.utils.data.TensorDataset(domains.source, domains.labels))
    unknown = torch.full((len(domains.target),), NO_LABEL)
    target = TargetDataset(torch.utils.data.TensorDataset(domains.target, unknown))
    started = time.process_time()
    together = CombinedSourceAndTargetDataset(source, target)
    loader: Any = torch.utils.data.DataLoader(together, recipe.batch, shuffle=True, drop_last=True)
    models, extra = pytorch_adapt_models(method)
    parameters = [p for model in models.values() for p in model.parameters()]
    optimiser = torch.optim.AdamW(parameters, lr=recipe.lr, weight_decay=0.0)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, recipe.steps(len(domains.target)))
    hook = pytorch_adapt_hook(method, optimiser)
    for _ in range(recipe.epochs):
        for batch in loader:
            hook({**models, **extra, **batch})
            schedule.step()
    seconds = time.process_time() - started
    return nn.Sequential(models["G"], models["C"]), {"seconds": seconds}


def pytorch_adapt_models(method: str) -> tuple[dict[str, nn.Module], dict[str, nn.Module]]:
    """Encoder, label head and, where the method has one, domain classifier; and how CDAN joins two inputs."""
    from pytorch_adapt.layers import RandomizedDotProduct

    models: dict[str, nn.Module] = {"G": Convolutions(), "C": label_head(WIDTH, CLASSES)}
    if method == "coral":
        return models, {}
    joined = 1024  # its default
    width = WIDTH if method == "dann" else joined
    models["D"] = nn.Sequential(nn.Linear(width, HIDDEN), nn.ReLU(), nn.Linear(HIDDEN, 1), nn.Flatten(0))
    extra = {} if method == "dann" else {"feature_combiner": RandomizedDotProduct([WIDTH, CLASSES], joined)}
    return models, extra


def pytorch_adapt_hook(method: str, optimiser: torch.optim.Optimizer) -> Any:
    """A step of a method, with its defaults."""
    from pytorch_adapt.hooks import AlignerPlusCHook, CDANNEHook, DANNHook
    from pytorch_adapt.layers import CORALLoss

    if method == "coral":
        return AlignerPlusCHook([optimiser], loss_fn=CORALLoss())
    return {"dann": DANNHook, "cdan": CDANNEHook}[method](opts=[optimiser])


def skada_shallow(method: str, features: dict[str, np.ndarray], classifier: Any, components: int) -> Any:
    """Predictions of skada's alignment of frozen features and a classifier, and its seconds."""
    from skada import CORAL, SubspaceAlignment

    made = SubspaceAlignment(classifier, components) if method == "subspace_alignment" else CORAL(classifier)
    source, target, test = features["source"], features["target"], features["test"]
    marks = np.repeat([SOURCE, TARGET], [len(source), len(target)])
    labels = np.concatenate([features["labels"], np.full(len(target), NO_LABEL)])
    started = time.process_time()
    made.fit(np.concatenate([source, target]), labels, sample_domain=marks)
    seconds = time.process_time() - started
    return made.predict(test, sample_domain=np.full(len(test), TARGET)), seconds
