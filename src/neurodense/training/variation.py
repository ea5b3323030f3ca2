"""The tables of a recipe beside its stages. No torch.

[augment] and [lesions] say what may vary in a training image from view to view, [teacher] how much of what another
model says is learnt.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from neurodense.errors import RecipeError

Kind = Literal["ring", "dural", "sellar"]
"""Of lesions that are drawn."""


class Checked(BaseModel):
    """A table of a recipe."""

    # TOML has types: "10" is no number and 1 is not true. Its lists become tuples, so those fields are not strict.
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class Augment(Checked):
    """Random changes of a training image, drawn anew for each view of each image; 0 or false switches one off."""

    flip: bool = Field(False, description="Left-right, one view in two.")
    flip_vertical: bool = Field(False, description="Top-bottom, one view in two.")
    rotate_degrees: float = Field(0, ge=0, le=180, description="Rotation, up to this many degrees to either side.")
    scale: float = Field(0, ge=0, le=0.5, description="Scaling by 1 - this to 1 + this.")
    stretch: float = Field(0, ge=0, le=0.5, description="Width over height changed by up to this share.")
    shift: float = Field(0, ge=0, le=0.5, description="Shift by up to this share of the side.")
    gamma: float = Field(0, ge=0, le=1, description="Exponent between exp(-this) and exp(this).")
    brightness: float = Field(0, ge=0, le=1, description="Factor between 1 - this and 1 + this.")
    contrast: float = Field(0, ge=0, le=1, description="Contrast about the mean, factor between 1 - this and 1 + this.")
    bias_field: float = Field(0, ge=0, le=1, description="Smooth multiplicative field, log amplitude up to this.")
    noise: float = Field(0, ge=0, le=0.5, description="Gaussian noise, standard deviation up to this.")
    blur: float = Field(0, ge=0, le=3, description="Gaussian blur, sigma up to this many pixels.")
    erase: float = Field(0, ge=0, le=0.5, description="One square set to 0, side up to this share of the side.")
    remap: float = Field(0, ge=0, le=1, description="The head's greys through a random curve of up to this strength.")
    equalise: float = Field(0, ge=0, le=1, description="The head's greys spread evenly, blended in by up to this.")
    invert: float = Field(0, ge=0, le=1, description="The head's bright and dark change places in this share of views.")
    window: float = Field(0, ge=0, le=1, description="Ends of the grey scale moved; 1 cuts off up to 20% and 15%.")
    low_resolution: float = Field(0, ge=0, le=0.8, description="Rows, columns averaged to 1 - this of them and back.")
    rician: float = Field(0, ge=0, le=1, description="Noise of a magnitude, up to this over the root mean square.")
    haze: float = Field(0, ge=0, le=0.5, description="Grey level of black raised by up to this.")
    trim: float = Field(0, ge=0, le=0.25, description="Up to this share of the side cut off at each edge.")
    pad: float = Field(0, ge=0, le=0.5, description="Up to this share of the side added at each edge, black or grey.")
    marks: float = Field(0, ge=0, le=1, description="Letters, rulers or frames drawn into this share of views.")
    blocks: float = Field(0, ge=0, le=1, description="Blocks of 8 x 8 pixels as in JPEG, as coarse as up to this.")


class Lesions(Checked):
    """Lesions drawn into pictures of the healthy class (`training/lesions.py`); such a picture is of a tumour class."""

    share: float = Field(0, ge=0, le=1, description="Of the healthy class's views, those that get one; 0 is off.")
    healthy: str = Field("", description="Name of the class that means: no tumour.")
    classes: tuple[str, ...] = Field((), strict=False, description="What such a picture may be: any one of these.")
    kinds: tuple[Kind, ...] = Field(("ring", "dural", "sellar"), strict=False, min_length=1)

    @model_validator(mode="after")
    def _complete(self) -> Self:
        if self.share and not (self.healthy and self.classes):
            raise ValueError('lesions need healthy, such as "notumor", and classes, such as ["glioma", "meningioma"]')
        if self.healthy in self.classes:
            raise ValueError(f"{self.healthy!r} is the healthy class and cannot be what a lesion stands for")
        return self

    def check(self, classes: Sequence[str]) -> None:
        """See that the data have the classes that are named.

        Raises:
            RecipeError: They have not.
        """
        if self.share and (unknown := [name for name in (self.healthy, *self.classes) if name not in classes]):
            raise RecipeError(
                f"[lesions] names {', '.join(map(repr, unknown))}; the classes are {', '.join(map(repr, classes))}.",
                "Name them as the folders are named.",
            )


class Teaching(Checked):
    """How the answers of a teacher are learnt (`training/loss.py`); --teacher names its file."""

    weight: float = Field(
        0.5, ge=0, le=1, description="Share of the loss that is the teacher's; the labels' is the rest."
    )
    temperature: float = Field(
        2, gt=0, le=100, description="Divides both models' logits; above 1 small ones count more."
    )
