"""The README of a model folder: the card, for people."""

from __future__ import annotations

from neurodense.evaluation.calibrate import summary
from neurodense.inference.card import Card


def model_readme(card: Card) -> str:
    """Markdown text of MODEL/README.md."""
    data = card.data
    kind = "**synthetic** images, made by a computer" if data.synthetic else "images"
    classes = [name.replace("|", "\\|") for name in card.classes]
    lines = [
        f"# {card.name}",
        "",
        f"> {card.notice}",
        "",
        f"A DenseNet121 that tells {len(card.classes)} classes apart: {', '.join(card.classes)}.",
        f"Trained with neurodense on {kind} of the folder `{data.name}`, recipe `{card.recipe['name']}`, "
        f"starting weights: {card.weights_origin}.",
        "",
        "## Use",
        "",
        "```",
        "neurodense predict scan.png --model THIS_FOLDER",
        "```",
        "",
        "| file | what |",
        "|---|---|",
        "| `card.json` | class names in order, preprocessing, recipe, data, results, versions |",
        "| `model.onnx` | pixels (N, 1, S, S) in [0, 1] -> logits, class activation maps, features |",
        *(["| `model.int8.onnx` | the same in 8 bits; card.json has what it was held to |"] if card.int8 else []),
        *(["| `ood.safetensors` | what the model knows, to reject other images |"] if card.out_of_distribution else []),
        "| `model.safetensors` | weights under torchvision's names |",
        "",
        "## Data",
        "",
        "| part | " + " | ".join(classes) + " | groups |",
        "|---|" + "---:|" * (len(card.classes) + 1),
    ]
    for part, counts in data.counts.items():
        groups = f"{data.groups[part]:,}" if data.groups else "not known"
        lines.append(f"| {part} | " + " | ".join(f"{counts[name]:,}" for name in card.classes) + f" | {groups} |")
    lines += ["", f"Split by {data.split_by}, seed {data.seed}."]
    if data.left_out is not None:
        lines.append(f"The test part is one source that training did not see: `{data.left_out}`.")
    if data.leaked:
        lines.append(
            f"{data.leaked:,} test images have a twin or an image of the same patient in training: "
            "the figures below are too good."
        )
    elif data.groups is None:
        lines.append("Images of one patient may be on both sides of this split: the figures below may be too good.")
    if card.metrics is not None:
        lines += [
            "",
            "## Results on the test part",
            "",
            f"n {card.metrics['n']:,}, accuracy {card.metrics['accuracy']:.4f}, "
            f"macro F1 {card.metrics['macro']['f1']:.4f}, loss {card.metrics['loss']:.4f}.",
            "",
            "| class | precision | recall | F1 | support |",
            "|---|---:|---:|---:|---:|",
        ]
        for name, s in card.metrics["per_class"].items():
            shown = name.replace("|", "\\|")
            lines.append(f"| {shown} | {s['precision']:.4f} | {s['recall']:.4f} | {s['f1']:.4f} | {s['support']:,} |")
    if card.calibration is not None:
        lines += ["", "## What it says of its own certainty", "", *(f"- {line}" for line in summary(card))]
    lines += [
        "",
        "## Limits",
        "",
        ("No image was kept to test this model on. " if card.metrics is None else "")
        + "Training and test images come from the same folder. On images of another scanner, protocol or collection "
        "the figures can be far lower: measure there before you rely on it. "
        + (
            "Every image gets one of the classes, also one that shows no brain."
            if card.out_of_distribution is None
            else "Images that show no brain are rejected, but not all of them."
        ),
        "",
    ]
    return "\n".join(lines)
