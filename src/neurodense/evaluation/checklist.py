"""checklist.md of a model folder: the items of CLAIM 2024, filled in where the training knows and open where it cannot.

Tejani et al., "Checklist for Artificial Intelligence in Medical Imaging (CLAIM): 2024 Update", Radiology: Artificial
Intelligence 6(4), 2024, e240300. The items are in our words; the published table is what a journal asks for.
"""

from __future__ import annotations

import json
from typing import Final

from neurodense.data.partial import either
from neurodense.evaluation.intervals import spoken
from neurodense.evaluation.limits import limits
from neurodense.inference.card import Card

OPEN: Final = "**To be completed by the author.**"

ITEMS: Final = {
    "Title and abstract": {1: "Title names the AI technique", 2: "Structured summary"},
    "Introduction": {3: "Background, intended use and clinical role", 4: "Aims and hypotheses"},
    "Study design": {5: "Prospective or retrospective", 6: "Goal of the study"},
    "Data": {
        7: "Sources of the data",
        8: "Inclusion and exclusion criteria",
        9: "Preprocessing",
        10: "Choice of subsets",
        11: "De-identification",
        12: "Missing data",
        13: "Image acquisition",
    },
    "Reference standard": {
        14: "Definition",
        15: "Why this one",
        16: "Who annotated",
        17: "How the test data were annotated",
        18: "Variability between and within annotators",
    },
    "Partitions and test data": {
        19: "How data were assigned",
        20: "At what level disjoint",
        21: "Size of the test part",
    },
    "Model": {22: "Architecture, input, output", 23: "Software", 24: "Initial weights"},
    "Training": {25: "Procedure", 26: "How the final model was chosen", 27: "Ensembles"},
    "Evaluation": {
        28: "Metrics",
        29: "Uncertainty and tests",
        30: "Robustness",
        31: "Explanations, and their validation",
        32: "Internal testing",
        33: "External testing",
        34: "Trial registration",
    },
    "Results": {
        35: "Numbers included and excluded, with a diagram",
        36: "Demographic and clinical characteristics",
        37: "Performance in the partitions",
        38: "Estimates with their precision",
        39: "Analysis of failures",
    },
    "Discussion": {40: "Limitations", 41: "Implications for practice"},
    "Other": {42: "Full protocol", 43: "Availability of code, model and data", 44: "Funding"},
}


def checklist(card: Card) -> str:
    """Markdown text of checklist.md."""
    known = _known(card)
    lines = [
        f"# CLAIM 2024 checklist: {card.name}",
        "",
        f"> {card.notice}",
        "",
        "Items of the Checklist for Artificial Intelligence in Medical Imaging, 2024 update "
        "(doi 10.1148/ryai.240300), in our words: compare with the published table before you hand it in. Filled in "
        f"is what the training knows: {len(known)} of {sum(map(len, ITEMS.values()))} items, some of them in part. The "
        "rest only you can say. `RUN` is the folder of the run.",
    ]
    for section, items in ITEMS.items():
        lines += ["", f"## {section}", "", "| item | | |", "|---:|---|---|"]
        for number, title in items.items():
            said = known.get(number, OPEN).replace("|", "\\|").replace("\n", " ")
            lines.append(f"| {number} | {title} | {said} |")
    return "\n".join([*lines, ""])


def _known(card: Card) -> dict[int, str]:
    """Item -> what is known of it."""
    data, recipe, metrics = card.data, card.recipe, card.metrics
    total = {part: sum(counts.values()) for part, counts in data.counts.items()}
    parts = ", ".join(
        f"{part} {count:,} images" + (f" of {data.groups[part]:,} groups" if data.groups else "")
        for part, count in total.items()
    )
    level = {
        "table": "Groups (patients) of a table; no group is in two parts.",
        "split": "Groups of a table of parts.",
        "twins": "Clusters of images that were found to be copies or neighbours; patients are not known.",
        None: "Whole groups." if data.groups else "Single images: nothing is known of patients.",
    }[data.groups_from]
    if data.leaked is not None:
        level += f" Test images with an image of their group in training: {data.leaked:,}."
    partial = "".join(
        f" Besides {sum(one.counts.values()):,} images of `{one.name}`, each known to be {either(one.classes)}."
        for one in data.partial
    )
    stages = "; ".join(
        f"{stage.get('name')}: {stage.get('epochs')} epochs, {stage.get('optimizer')}, learning rate "
        f"{stage.get('learning_rate')}"
        for stage in recipe.get("stage", recipe.get("stages", ()))
    )
    known = {
        6: "A model that classifies single slices; see README.md for what it is not for.",
        7: f"Folder `{data.name}`{', of synthetic images' if data.synthetic else ''}, manifest sha256 "
        f"{data.manifest_sha256}.{partial} {OPEN} Where it comes from.",
        9: f"One function for training and use, its parameters in card.json: {_plain(card.preprocess.model_dump())}.",
        12: "Files that could not be read were left out and counted; nothing was imputed. RUN/run.json names them.",
        14: f"The name of the folder that an image lies in: {', '.join(card.classes)}. {OPEN} What stands behind it.",
        19: f"Split by {data.split_by}, seed {data.seed}: {parts}. RUN/split.csv has each image with its sha256.",
        20: level,
        22: f"DenseNet121 (torchvision's), dropout {card.graph.dropout} before the classifier; input "
        f"`{card.graph.input}`, outputs {', '.join(f'`{name}`' for name in card.graph.outputs)}. In model.onnx.",
        23: ", ".join(f"{name} {version}" for name, version in card.versions.items()) + ".",
        24: f"{card.weights_origin}.",
        25: f"Recipe `{recipe['name']}`, in full in RUN/recipe.toml, in {card.arithmetic}. {stages}"
        + (f"; teacher {teacher.name}, weight {teacher.weight:g}" if (teacher := card.teacher) is not None else ""),
        26: f"Epoch {card.kept_epoch} of {len(card.history)} was kept: "
        + ("the best on the validation part." if recipe.get("keep") == "best" else "the last."),
        27: "None: one model.",
        28: "Accuracy, balanced accuracy, precision, recall, F1, specificity, AUROC, AUPRC, MCC, kappa, log loss, "
        "Brier score, ECE; definitions in docs/metrics.md of neurodense.",
        31: "Class activation maps, exact for this network; how faithful they are was measured for the program "
        f"(docs/explanations.md), {OPEN} and for this model.",
        35: "The diagram at the top of RUN/report/index.html.",
        40: " ".join(limits(card)),
        42: "RUN/run.json, RUN/recipe.toml and the command in the report make the same run again.",
        43: f"neurodense is open source (Apache-2.0). {OPEN} Whether model and data are available.",
    }
    if metrics is None:
        return known | {32: "No test part: the model was trained on all images; see the report of the folds."}
    found = metrics.get("intervals", {"figures": {}})

    def said(name: str, value: float | None) -> str:
        return spoken(value, found["figures"].get(name))

    recalls = ", ".join(
        f"recall of {name} {said(f'per_class.{name}.recall', scores['recall'])}"
        for name, scores in metrics["per_class"].items()
    )
    known[32] = f"On the test part, read once the training was done, {metrics['n']:,} images: {recalls}."
    known[37] = (
        f"Test: accuracy {said('accuracy', metrics['accuracy'])}, macro F1 {said('macro.f1', metrics['macro']['f1'])}. "
        f"Validation: {_plain(card.validation)}."
    )
    known[39] = "Confusion matrix and the worst mistakes with heat maps: RUN/report/index.html."
    if "units" in found:
        known[29] = (
            f"95% intervals by a BCa bootstrap over {found['units']:,} {found['drawn']}, {found['resamples']:,} "
            f"resamples, seed {found['seed']}."
        )
        known[38] = "Every figure with its interval: card.json, README.md and RUN/report/index.html."
    if data.left_out is not None:
        known[33] = f"The test part is one source that training did not see: {data.left_out}."
    return known


def _plain(values: dict[str, object]) -> str:
    return ", ".join(
        f"{name} {f'{value:.4f}' if isinstance(value, float) else json.dumps(value, ensure_ascii=False)}"
        for name, value in values.items()
    )
