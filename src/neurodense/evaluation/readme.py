"""README.md of a model folder: a model card for people (Mitchell et al., "Model cards for model reporting", FAT* 2019).

`checklist.py` maps the same run to the items that a journal asks for.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from neurodense import atomic
from neurodense.data.partial import either
from neurodense.evaluation.calibrate import summary
from neurodense.evaluation.checklist import checklist
from neurodense.evaluation.intervals import spoken
from neurodense.evaluation.limits import limits
from neurodense.evaluation.metrics import HEADLINE
from neurodense.inference.card import Card
from neurodense.inference.seen import SEEN


def describe(folder: Path, card: Card) -> None:
    """Write README.md and checklist.md of a model folder."""
    atomic.write_text(folder / "README.md", model_readme(card))
    atomic.write_text(folder / "checklist.md", checklist(card))


def model_readme(card: Card) -> str:
    """Markdown text of README.md."""
    kind = "**synthetic** images, made by a computer" if card.data.synthetic else "images"
    lines = [
        f"# {card.name}",
        "",
        f"> {card.notice}",
        "",
        f"A DenseNet121 that tells {len(card.classes)} classes apart: {', '.join(card.classes)}. Trained with "
        f"neurodense on {kind} of the folder `{card.data.name}`, recipe `{card.recipe['name']}`, starting weights: "
        f"{card.weights_origin}.",
        "",
        "## What it is for",
        "",
        "- Research and teaching: to study what such a model sees, to compare methods, to rank images for a person who "
        "looks at each of them.",
        "- **Not for diagnosis, not for treatment, not for deciding who is seen first.** It is no medical device and "
        "nobody has tested it on patients.",
        "- Input: a single slice of a brain MRI, or a volume or series slice by slice, like those that it was trained "
        "on. Nothing of the patient but the picture.",
        "",
        "```",
        "neurodense predict scan.png --model THIS_FOLDER",
        "neurodense evaluate OTHER --model THIS_FOLDER --out DIR     # before you rely on it: on your own images",
        "```",
        "",
        "| file | what |",
        "|---|---|",
        "| `card.json` | class names in order, preprocessing, recipe, data, results, versions |",
        "| `model.onnx` | pixels (N, 1, S, S) in [0, 1] -> logits, class activation maps, features |",
        *(["| `model.int8.onnx` | the same in 8 bits; card.json has what it was held to |"] if card.int8 else []),
        *(["| `ood.safetensors` | what the model knows, to reject other images |"] if card.out_of_distribution else []),
        "| `model.safetensors` | weights under torchvision's names |",
        *(["| `seen.txt` | the images that it has seen, by the hashes of their files |"] if SEEN in card.files else []),
        "| `checklist.md` | the items of CLAIM 2024: filled in where the training knows, open where it cannot |",
        "",
        *_data(card),
        *_results(card),
        *_certainty(card),
        "",
        "## Limits",
        "",
        *(f"- {line}" for line in limits(card)),
        "",
    ]
    return "\n".join(lines)


def _data(card: Card) -> list[str]:
    data, classes = card.data, [_cell(name) for name in card.classes]
    lines = [
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
    if (teacher := card.teacher) is not None:
        lines.append(
            f"Beside the labels it learnt what another model says of the training images, `{teacher.name}` (sha256 "
            f"{teacher.sha256}): weight {teacher.weight:g}, temperature {teacher.temperature:g}."
        )
    if data.left_out is not None:
        lines.append(f"The test part is one source that training did not see: `{data.left_out}`.")
    if data.leaked:
        lines.append(f"{data.leaked:,} test images have a twin or an image of the same patient in training.")
    return lines


def _results(card: Card) -> list[str]:
    metrics, lines = card.metrics, list[str]()
    if metrics is not None:
        found = metrics.get("intervals", {"figures": {}, "warnings": []})  # older cards have none

        def said(name: str, value: float | None) -> str:
            return spoken(value, found["figures"].get(name))

        how = f", by a bootstrap over {found['units']:,} {found['drawn']}" if "units" in found else ""
        lines += [
            "",
            "## Results on the test part",
            "",
            f"{metrics['n']:,} images. In brackets: 95% intervals{how}.",
            *found["warnings"],
            "",
            "| figure | value |",
            "|---|---:|",
            *(f"| {title} | {said(name, value)} |" for name, title, value in _headline(metrics)),
            "",
            "| class | precision | recall | F1 | support |",
            "|---|---:|---:|---:|---:|",
        ]
        for name, scores in metrics["per_class"].items():
            cells = (said(f"per_class.{name}.{key}", scores[key]) for key in ("precision", "recall", "f1"))
            lines.append(f"| {_cell(name)} | {' | '.join(cells)} | {scores['support']:,} |")
    if any(one.called for one in card.data.partial):
        lines += ["", "## Images whose class is only partly known", ""]
        lines += [
            f"Of {called.images:,} images of `{one.name}` in the {part} part, {called.allowed:,} are called "
            f"{either(one.classes)}."
            for one in card.data.partial
            for part, called in one.called.items()
        ]
    return lines


def _headline(metrics: dict[str, Any]) -> list[tuple[str, str, float]]:
    """Name, title and value of the figures that are shown first, as far as the card has them."""
    rows = []
    for name, title in HEADLINE.items():
        value: Any = metrics
        for part in name.split("."):
            value = value.get(part) if isinstance(value, dict) else None
        if value is not None:
            rows.append((name, title, value))
    return rows


def _certainty(card: Card) -> list[str]:
    if card.calibration is None:
        return []
    lines = ["", "## What it says of its own certainty", "", *(f"- {line}" for line in summary(card))]
    measured = (card.metrics or {}).get("certainty") or {"sets": [], "accepted": None}
    for one in measured["sets"]:
        share = spoken(one["covered"]["value"], one["covered"]["interval"])
        lines.append(
            f"- on the test part, prediction sets with an error of {one['error']:.0%} hold the true class of {share} "
            "of the images, each group counting once"
        )
    if measured["accepted"]:
        share = spoken(measured["accepted"]["value"], measured["accepted"]["interval"])
        lines.append(f"- on the test part {share} of the images are accepted as like those that the model knows")
    return lines


def _cell(name: str) -> str:
    return name.replace("|", "\\|")
