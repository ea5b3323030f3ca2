"""What a model cannot do, and what its figures do not show, as far as its card knows."""

from __future__ import annotations

from neurodense.inference.card import Card


def limits(card: Card) -> list[str]:
    """Sentences for README.md and checklist.md."""
    data = card.data
    said = [] if card.metrics is not None else ["No image was kept to test this model on."]
    if data.synthetic:
        said.append("The images are synthetic: no figure says anything about patients.")
    if data.leaked:
        said.append(
            f"{data.leaked:,} test images have a twin or an image of the same patient in training: the figures are too "
            "good."
        )
    elif data.groups is None:
        said.append("Images of one patient may be on both sides of the split: the figures may be too good.")
    elif data.groups_from == "twins":
        said.append(
            "Groups are twins that were found by comparing images, not patients: slices of one patient that look "
            "different may be on both sides."
        )
    if card.teacher is not None:
        said.append(
            f"{card.teacher.name}, which it learnt from, was trained elsewhere: if test images were among those that "
            "this teacher learnt from, the figures are too good."
        )
    if data.left_out is None:
        said.append(
            f"Training and test images come from the same folder{'s' if data.partial else ''}. On images of another "
            "scanner, protocol or collection the figures can be far lower: measure there before you rely on it."
        )
    said.append(
        "Every image gets one of the classes, also one that shows no brain."
        if card.out_of_distribution is None
        else "Images that show no brain are rejected, but not all of them; a brain MRI from elsewhere mostly is not."
    )
    said.append("The labels of the folder were taken as they are; nobody looked at them again.")
    return said
