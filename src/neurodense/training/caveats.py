"""What a reader of a report must know before relying on its figures."""

from __future__ import annotations

from neurodense.data.partial import either
from neurodense.evaluation.evaluation import Evaluation
from neurodense.training.sheet import RunSheet

_GROUPS = {
    "table": [],
    "split": [],
    "twins": [
        "The groups are twins that were found by comparing images: copies of one slice are on one side. Slices of one "
        "patient that look different may be on both, and the score is then too good: --groups CSV names the patients."
    ],
    None: [
        "No groups are known: no group table was given. Slices of one patient, and copies of one slice, "
        "may be on both sides, and the score is then too good: give --groups."
    ],
}


def caveats(sheet: RunSheet, evaluation: Evaluation | None) -> list[str]:
    """Sentences for the report of a run, or of folds together; `evaluation` is None where nothing was tested."""
    said = []
    if sheet.synthetic:
        said.append("The images are synthetic: made by a computer. The figures say nothing about patients.")
    if sheet.split_by == "image":
        of = f" of {evaluation.metrics.n:,}" if evaluation is not None else ""
        said.append(
            "The split is by image, as the notebook's. "
            + (
                f"{sheet.leaked:,}{of} test images have a twin or another image of the same patient in training, and "
                "the score is too good by them: --split-by group keeps them apart."
                if sheet.leaked is not None
                else "Images of one patient may be on both sides, and the score is then too good."
            )
        )
    else:
        said += _GROUPS[sheet.groups_from]
    for one in sheet.partial:
        known = "of which only is known that each shows" if len(one.classes) > 1 else "each known to be"
        said.append(
            f"Images of {one.name} trained too, {known} {either(one.classes)}. So what is counted on those "
            "held back stands for that source, and no longer for one that training never saw; a model that called "
            "every image so would be right on all of them."
        )
    if sheet.teacher is not None:
        said.append(
            f"The training learnt from {sheet.teacher.name} too, a model that was trained elsewhere. If it has learnt "
            "from test images, the score is too good: a teacher is trained with the same split.csv."
        )
    if sheet.left_out is not None:
        said.append(
            f"The test part is one source, {sheet.left_out}, that training did not see. It stands for other sources as "
            "far as they are like it."
        )
    else:
        said.append(
            f"All {'test ' if sheet.partial else ''}images come from one folder. A score inside one collection does "
            "not show that the model sees the tumour and not the source; measure it on another collection as well, or "
            "leave one out: --leave-out."
        )
    if sheet.unreadable:
        said.append(f"{len(sheet.unreadable)} images could not be read and are left out; run.json names them.")
    if evaluation is not None:
        said += evaluation.intervals.warnings
        said += [f"Without a value: {sentence}." for sentence in evaluation.metrics.undefined]
    return said
