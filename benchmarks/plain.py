"""The notebook as it is: ImageFolder, Resize, ToTensor, Normalize, DataLoader, fp32, every layer in every epoch."""

from __future__ import annotations

import time
from pathlib import Path

import torch
from torch import nn
from torch.utils.data import DataLoader
from torchvision import transforms
from torchvision.datasets import ImageFolder
from torchvision.models import densenet121


class PlainLoop:
    """A faithful plain loop over RUN/train and RUN/validation, each with one folder a class."""

    def __init__(self, folder: Path, classes: int) -> None:
        transform = transforms.Compose(
            [
                transforms.Resize((224, 224)),
                transforms.ToTensor(),
                transforms.Normalize((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
            ]
        )
        pin = torch.cuda.is_available()
        self.train = DataLoader(
            ImageFolder(str(folder / "train"), transform), batch_size=32, shuffle=True, num_workers=2, pin_memory=pin
        )
        self.validation = DataLoader(
            ImageFolder(str(folder / "validation"), transform), batch_size=32, num_workers=2, pin_memory=pin
        )
        self.model = densenet121(weights=None)
        self.model.classifier = nn.Sequential(nn.Dropout(0.3), nn.Linear(1024, classes))
        self.loss = nn.CrossEntropyLoss()

    def epoch(self, stage: str) -> float:
        """Seconds of one training epoch; stage is "head" or "block 4"."""
        trainable = ("classifier",) if stage == "head" else ("features.denseblock4", "classifier")
        for name, parameter in self.model.named_parameters():
            parameter.requires_grad = name.startswith(trainable)
        optimizer = torch.optim.Adam((p for p in self.model.parameters() if p.requires_grad), lr=1e-4)
        start = time.perf_counter()
        self.model.train()
        for images, labels in self.train:
            optimizer.zero_grad()
            loss = self.loss(self.model(images), labels)
            loss.backward()
            optimizer.step()
            loss.item()
        return time.perf_counter() - start

    def evaluation(self) -> float:
        """Seconds of one pass over the validation images."""
        start = time.perf_counter()
        self.model.eval()
        with torch.no_grad():
            for images, labels in self.validation:
                outputs = self.model(images)
                self.loss(outputs, labels).item()
                outputs.argmax(1)
        return time.perf_counter() - start
