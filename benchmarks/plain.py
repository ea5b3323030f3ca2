"""The notebook as it is: ImageFolder, Resize, ToTensor, Normalize, DataLoader, fp32, every layer in every epoch."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader
from torchvision import transforms
from torchvision.datasets import ImageFolder
from torchvision.models import densenet121

BATCH = 32


def plain_loader(folder: Path, size: int, *, shuffle: bool = False, normalise: bool = True) -> DataLoader[Any]:
    """ImageFolder with the notebook's transforms and 2 workers."""
    steps: list[Any] = [transforms.Resize((size, size)), transforms.ToTensor()]
    if normalise:
        steps.append(transforms.Normalize((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
    images = ImageFolder(str(folder), transforms.Compose(steps))
    pin = torch.cuda.is_available()
    return DataLoader(images, batch_size=BATCH, shuffle=shuffle, num_workers=2, pin_memory=pin)


class Clock:
    """Seconds of a pass over a loader, of which `images` may be enough.

    Where a pass is cut short, its first batch, which waits for the workers to start, counts once, and what follows it
    is taken to go on at the same rate.
    """

    def __init__(self, loader: DataLoader[Any], images: int | None = None) -> None:
        self.loader, self.enough = loader, images
        self.seconds = 0.0

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        whole, done, first = len(self.loader.dataset), 0, 0.0  # type: ignore[arg-type]
        start = time.perf_counter()
        for batch in self.loader:
            yield batch
            done += len(batch[0])
            self.seconds = time.perf_counter() - start
            first = first or self.seconds
            if self.enough is not None and done >= max(self.enough, 2 * BATCH) and done < whole:
                self.seconds = first + (self.seconds - first) / (done - BATCH) * (whole - BATCH)
                return


class PlainLoop:
    """A faithful plain loop over FOLDER/train and FOLDER/validation, each with one folder a class."""

    def __init__(self, folder: Path, classes: int, device: str = "cpu") -> None:
        self.device = device
        self.train = plain_loader(folder / "train", 224, shuffle=True)
        self.validation = plain_loader(folder / "validation", 224)
        self.model = densenet121(weights=None)
        self.model.classifier = nn.Sequential(nn.Dropout(0.3), nn.Linear(1024, classes))
        self.model.to(device)
        self.loss = nn.CrossEntropyLoss()

    def epoch(self, stage: str, images: int | None = None) -> float:
        """Seconds of one training epoch, from its first `images`; stage is "head" or "block 4"."""
        trainable = ("classifier",) if stage == "head" else ("features.denseblock4", "classifier")
        for name, parameter in self.model.named_parameters():
            parameter.requires_grad = name.startswith(trainable)
        optimizer = torch.optim.Adam((p for p in self.model.parameters() if p.requires_grad), lr=1e-4)
        self.model.train()
        clock = Clock(self.train, images)
        for batch, labels in clock:
            optimizer.zero_grad()
            loss = self.loss(self.model(batch.to(self.device)), labels.to(self.device))
            loss.backward()
            optimizer.step()
            loss.item()
        return clock.seconds

    def evaluation(self, images: int | None = None) -> float:
        """Seconds of one pass over the validation images, from the first `images`."""
        self.model.eval()
        clock = Clock(self.validation, images)
        with torch.no_grad():
            for batch, labels in clock:
                outputs = self.model(batch.to(self.device))
                self.loss(outputs, labels.to(self.device)).item()
                outputs.argmax(1)
        return clock.seconds


def plain_evaluation(folder: Path, weights: dict[str, Tensor], size: int, out: Path, device: str, images: int) -> float:
    """Seconds to evaluate FOLDER: torch fp32 as it comes, scikit-learn's report, matrix and areas, and one figure.

    The pass over the images is timed on the first `images` of them; the report is made of that many answers, repeated
    to the number of all.
    """
    import numpy as np
    from matplotlib.figure import Figure
    from sklearn.metrics import ConfusionMatrixDisplay, classification_report, confusion_matrix, roc_auc_score

    loader = plain_loader(folder, size, shuffle=True)  # so that the first images are of every class
    names = loader.dataset.classes  # type: ignore[attr-defined]
    model = densenet121(weights=None)
    model.classifier = nn.Sequential(nn.Dropout(0.3), nn.Linear(1024, len(weights["classifier.1.bias"])))
    model.load_state_dict({name: tensor.float() for name, tensor in weights.items()}, strict=False)
    model.to(device).eval()
    clock = Clock(loader, images)
    rows, labels = [], []
    with torch.no_grad():
        for batch, truth in clock:
            rows.append(torch.softmax(model(batch.to(device)), 1).cpu())
            labels.append(truth)
    start = time.perf_counter()
    whole = len(loader.dataset)  # type: ignore[arg-type]
    probabilities, true = torch.cat(rows).double().numpy(), torch.cat(labels).numpy()
    repeat = np.arange(whole) % len(true)
    probabilities, true = probabilities[repeat] / probabilities[repeat].sum(1, keepdims=True), true[repeat]
    said = probabilities.argmax(1)
    every = list(range(len(names)))
    out.mkdir(parents=True, exist_ok=True)
    report = classification_report(true, said, labels=every, target_names=names, zero_division=0)
    area = roc_auc_score(true, probabilities, multi_class="ovr", labels=every) if len(set(true)) == len(names) else 0.0
    (out / "report.txt").write_text(f"{report}\nAUROC {area:.4f}\n", encoding="utf-8")
    figure = Figure()
    matrix = confusion_matrix(true, said, labels=every)
    ConfusionMatrixDisplay(matrix, display_labels=names).plot(ax=figure.subplots())
    figure.savefig(out / "confusion.png", dpi=150)
    return clock.seconds + time.perf_counter() - start
