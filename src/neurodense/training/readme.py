"""The README of a model folder: the card, for people."""

from __future__ import annotations

from neurodense.data.partial import either
from neurodense.evaluation.calibrate import summary
from neurodense.evaluation.intervals import spoken
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
    for one in data.partial:
        held = ", ".join(f"{part} {count:,}" for part, count in one.counts.items())
        lines.append(
            f"Trained too on the folder `{one.name}`, of whose images only is known that each shows "
            f"{either(one.classes)}: {held}."
        )
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
        found = card.metrics["intervals"]

        def said(name: str, value: float) -> str:
            return spoken(value, found["figures"].get(name))

        lines += [
            "",
            "## Results on the test part",
            "",
            f"n {card.metrics['n']:,}, accuracy {said('accuracy', card.metrics['accuracy'])}, "
            f"macro F1 {said('macro.f1', card.metrics['macro']['f1'])}, loss {said('loss', card.metrics['loss'])}. "
            f"In brackets: 95% intervals, by a bootstrap over {found['units']:,} {found['drawn']}.",
            *found["warnings"],
            "",
            "| class | precision | recall | F1 | support |",
            "|---|---:|---:|---:|---:|",
        ]
        for name, s in card.metrics["per_class"].items():
            shown = name.replace("|", "\\|")
            cells = (said(f"per_class.{name}.{key}", s[key]) for key in ("precision", "recall", "f1"))
            lines.append(f"| {shown} | {' | '.join(cells)} | {s['support']:,} |")
    if any(one.called for one in data.partial):
        lines += ["", "## Images whose class is only partly known", ""]
        lines += [
            f"Of {called.images:,} images of `{one.name}` in the {part} part, {called.allowed:,} are called "
            f"{either(one.classes)}."
            for one in data.partial
            for part, called in one.called.items()
        ]
    if card.calibration is not None:
        lines += ["", "## What it says of its own certainty", "", *(f"- {line}" for line in summary(card))]
    lines += [
        "",
        "## Limits",
        "",
        ("No image was kept to test this model on. " if card.metrics is None else "")
        + f"Training and test images come from the same folder{'s' if data.partial else ''}. On images of another "
        "scanner, protocol or collection the figures can be far lower: measure there before you rely on it. "
        + (
            "Every image gets one of the classes, also one that shows no brain."
            if card.out_of_distribution is None
            else "Images that show no brain are rejected, but not all of them."
        ),
        "",
    ]
    return "\n".join(lines)
