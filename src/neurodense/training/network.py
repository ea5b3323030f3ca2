"""DenseNet121 as the recipe changes it, and the cut between its frozen prefix and its trainable suffix.

The state dict keeps torchvision's own names (`features.denseblock4...`, `classifier.1.weight`), so a saved model loads
into `torchvision.models.densenet121` after `model.classifier = nn.Sequential(nn.Dropout(p), nn.Linear(1024, classes))`.

Network: Huang et al., Densely Connected Convolutional Networks, CVPR 2017. The class activation map is that of Zhou et
al., Learning Deep Features for Discriminative Localization, CVPR 2016: the classifier applied at every place of the
last feature map. Its mean over the places is the logit itself, because averaging and the classifier are both linear.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn
from torchvision.models import densenet121

from neurodense.training.recipe import STEPS, Recipe

FEATURES = 1024
MEAN = (0.485, 0.456, 0.406)
STD = (0.229, 0.224, 0.225)


class Normalise(nn.Module):
    """Grey pixels in [0, 1], (N, 1, S, S), to ImageNet's colour scale, (N, 3, S, S)."""

    mean: Tensor
    std: Tensor

    def __init__(self) -> None:
        super().__init__()
        # Not persistent: the state dict stays torchvision's own.
        self.register_buffer("mean", torch.tensor(MEAN).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(STD).view(1, 3, 1, 1), persistent=False)

    def forward(self, pixels: Tensor) -> Tensor:
        """(N, 1, S, S) -> (N, 3, S, S)."""
        return ((pixels - self.mean) / self.std).contiguous(memory_format=torch.channels_last)


class Pool(nn.Module):
    """ReLU and the mean over places, in float32: (N, 1024, h, w) -> (N, 1024)."""

    def forward(self, maps: Tensor) -> Tensor:
        """(N, 1024, h, w) -> (N, 1024), float32."""
        return torch.relu(maps).float().mean((2, 3))


class Network(nn.Module):
    """DenseNet121 with Dropout + Linear as its classifier, and its steps in order.

    Attributes:
        features: torchvision's feature layers.
        classifier: Dropout and Linear(1024, classes).
    """

    def __init__(self, classes: int, dropout: float) -> None:
        super().__init__()
        self.pixels = Normalise()
        self.features: nn.Sequential = densenet121(weights=None).features
        self.pool = Pool()
        self.classifier = nn.Sequential(nn.Dropout(dropout), nn.Linear(FEATURES, classes))

    @property
    def dtype(self) -> torch.dtype:
        """That of its parameters."""
        return next(self.parameters()).dtype

    def step(self, name: str) -> nn.Module:
        """The module of one of STEPS."""
        if name == "stem":
            return nn.Sequential(*(self.features.get_submodule(n) for n in ("conv0", "norm0", "relu0", "pool0")))
        if name in ("pixels", "pool", "classifier"):
            return self.get_submodule(name)
        return self.features.get_submodule(name)

    def between(self, start: int, stop: int) -> nn.Sequential:
        """Steps start..stop-1 as one module that shares the network's parameters."""
        return nn.Sequential(*(self.step(name) for name in STEPS[start:stop]))

    def forward(self, pixels: Tensor) -> Tensor:
        """Pixels (N, 1, S, S) float32 in [0, 1] -> logits (N, classes)."""
        logits: Tensor = self.between(0, len(STEPS))(pixels)
        return logits

    def explain(self, pixels: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """What the exported graph gives for pixels (N, 1, S, S).

        Returns:
            Logits (N, classes); class activation maps (N, classes, S/32, S/32), whose mean over places is the logit;
            features (N, 1024).
        """
        maps = torch.relu(self.between(0, STEPS.index("pool"))(pixels).float())
        linear = self.classifier[1]
        assert isinstance(linear, nn.Linear)
        activation = nn.functional.conv2d(maps, linear.weight[:, :, None, None], linear.bias)
        features = maps.mean((2, 3))
        return linear(features), activation, features


def new_network(classes: int, recipe: Recipe) -> Network:
    """A network with torchvision's initial weights, laid out channels last, drawn from torch's current seed."""
    return Network(classes, recipe.dropout).to(memory_format=torch.channels_last)


def trainable_parameters(network: Network, trainable: Iterable[str]) -> dict[str, nn.Parameter]:
    """Let exactly these parts train: sets requires_grad everywhere, and returns what trains by its full name."""
    chosen = set(STEPS) if "all" in trainable else set(trainable)
    for parameter in network.parameters():
        parameter.requires_grad_(False)
    for name in STEPS:
        if name in chosen:
            for parameter in network.step(name).parameters():
                parameter.requires_grad_(True)
    return {name: parameter for name, parameter in network.named_parameters() if parameter.requires_grad}


def training_mode(network: Network, trainable: Iterable[str], *, still: bool) -> None:
    """Put the parts that train into train mode and everything else into eval mode.

    A frozen BatchNorm left in train mode would go on updating its running statistics: frozen means frozen.

    Args:
        network: The network.
        trainable: Parts as a stage names them.
        still: True holds the running statistics of trainable BatchNorm layers as well.
    """
    chosen = set(STEPS) if "all" in trainable else set(trainable)
    network.eval()
    for name in STEPS:
        if name in chosen:
            network.step(name).train()
    if still:
        for module in network.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.eval()
