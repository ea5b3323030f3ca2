"""A teacher: a classifier in an ONNX file, whose answers a training learns beside the labels (`training/loss.py`).

It is asked about each view that the student sees, at the moment it sees it (Beyer et al., Knowledge distillation: A
good teacher is patient and consistent, CVPR 2022), and is no part of the model that comes out.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from neurodense.errors import ModelError, RunError
from neurodense.inference.card import sha256_of
from neurodense.inference.engine import choose_engine, load
from neurodense.training.sheet import TeacherFile

_BATCH: Final = 4
"""Images a run, so that what an image gives does not depend on the number of cores."""
_HINT = "docs/recipes.md says what a teacher is; examples/teacher.py trains one and writes its file."


class Teacher:
    """Runs a teacher on the CPU, in fp32.

    Args:
        file: An .onnx file whose one input is float32 (N, 1, S, S) or (N, 3, S, S), grey in [0, 1], and whose first
            output is logits (N, classes).
        classes: In order. Where the file has metadata `classes`, a JSON list, it must be the same.

    Raises:
        ModelError: There is no such file, or it is no such graph.
    """

    def __init__(self, file: Path, classes: Sequence[str]) -> None:
        self.file, self.classes = file, classes
        self._form = _form_of(file, classes)
        threads = torch.get_num_threads()
        try:
            self._run = load(file, [self._form.output], choose_engine(), "fp32", threads, threads)
        except ModelError as error:
            raise ModelError(error.message, _HINT) from error
        self._pool = ThreadPoolExecutor(threads)
        self(torch.linspace(0, 1, 2 * 64 * 64).view(2, 1, 64, 64))

    def __call__(self, views: Tensor) -> Tensor:
        """Logits (N, classes) float32, on the device of the views.

        Args:
            views: (N, 1, s, s) in [0, 1], N of at least 1; resized to the teacher's S bilinearly.

        Raises:
            ModelError: It gives something else than finite logits.
        """
        x = views.detach().to("cpu", torch.float32)
        if x.shape[-1] != self._form.side:
            x = functional.interpolate(x, (self._form.side, self._form.side), mode="bilinear", antialias=True)
        x = x.expand(-1, self._form.channels, -1, -1)
        pieces = [piece.contiguous().numpy() for piece in torch.split(x, _BATCH)]
        for piece, (logits,) in zip(pieces, answers := list(self._pool.map(self._run, pieces)), strict=True):
            if logits.shape != (len(piece), len(self.classes)):
                raise ModelError(
                    f"{self.file} gives {logits.shape} for {len(piece)} images; logits of "
                    f"{len(self.classes)} classes are {(len(piece), len(self.classes))}: {', '.join(self.classes)}.",
                    "A teacher tells the same classes apart, in this order.",
                )
            if not np.isfinite(logits).all():
                raise ModelError(f"{self.file} gives values that are not finite.", _HINT)
        return torch.from_numpy(np.concatenate([logits for (logits,) in answers]).astype(np.float32)).to(views.device)


class _Form(NamedTuple):
    """What a graph takes and gives."""

    channels: int
    side: int
    output: str


def _form_of(file: Path, classes: Sequence[str]) -> _Form:
    """Read a graph's input, output and metadata, without running it."""
    import onnx
    from google.protobuf.message import DecodeError  # type: ignore[import-untyped]

    try:
        model = onnx.load_model_from_string(file.read_bytes())
    except OSError as error:
        raise ModelError(f"{file} cannot be read: {error.strerror or error}.", _HINT) from None
    except (DecodeError, ValueError):
        raise ModelError(f"{file} is no ONNX file.", _HINT) from None
    weights = {tensor.name for tensor in model.graph.initializer}  # some graphs list them as inputs too
    inputs = [one for one in model.graph.input if one.name not in weights]
    if not inputs or not model.graph.output:  # bytes that happen to decode
        raise ModelError(f"{file} is no ONNX file.", _HINT)
    if any(tensor.data_location == onnx.TensorProto.EXTERNAL for tensor in model.graph.initializer):
        raise ModelError(
            f"{file} has weights in other files, which its hash does not cover.",
            "onnx.save(onnx.load(FILE), NEW_FILE) writes one file that holds all.",
        )
    _check_classes(file, model, classes)
    form = [_shape_of(one) for one in inputs]
    if len(form) > 1 or form[0] not in [("float32", "N", channels, form[0][-1], form[0][-1]) for channels in (1, 3)]:
        got = " and ".join(f"{dtype} ({', '.join(map(str, shape))})" for dtype, *shape in form)
        raise ModelError(
            f"{file} takes {got}; a teacher takes one float32 (N, 1, S, S) or (N, 3, S, S), any number of images N of "
            "one side S.",
            _HINT,
        )
    _, _, channels, side, _ = form[0]
    if not isinstance(side, int):
        raise ModelError(f"{file} does not say the side S of its input (N, {channels}, S, S).", _HINT)
    return _Form(channels, side, model.graph.output[0].name)


def _shape_of(one: Any) -> tuple[Any, ...]:
    """Type and sides of an input; a side that is free is "N" where it is the first, else "?"."""
    import onnx

    kind = one.type.tensor_type
    try:
        dtype = str(onnx.helper.tensor_dtype_to_np_dtype(kind.elem_type))
    except KeyError:
        dtype = "no tensor"
    sides = [dim.dim_value if dim.HasField("dim_value") and dim.dim_value > 0 else "?" for dim in kind.shape.dim]
    if sides and sides[0] == "?":
        sides[0] = "N"
    return dtype, *sides


def _check_classes(file: Path, model: Any, classes: Sequence[str]) -> None:
    text = next((entry.value for entry in model.metadata_props if entry.key == "classes"), None)
    if text is None:
        return
    try:
        own = json.loads(text)
    except ValueError:
        own = text
    if own != list(classes):
        raise ModelError(
            f"{file} tells apart {own if isinstance(own, str) else ', '.join(map(str, own))}; the folders are "
            f"{', '.join(classes)}.",
            "A teacher tells the same classes apart, in the same order.",
        )


def read_teacher(file: str | Path, classes: Sequence[str]) -> TeacherFile:
    """See that a file is a teacher of these classes, by asking it about one image.

    Raises:
        ModelError: It is not.
    """
    path = Path(file)
    Teacher(path, classes)
    return TeacherFile(str(path.resolve()), sha256_of(path))


def open_teacher(file: TeacherFile | None, classes: Sequence[str]) -> Teacher | None:
    """The teacher of a run, ready to be asked; None where there is none.

    Raises:
        RunError: Its file is gone, or is another one than the run began with.
    """
    found = found_again(file, None)
    return None if found is None else Teacher(Path(found.path), classes)


def found_again(began: TeacherFile | None, now: str | Path | None, run: str | Path = "RUN") -> TeacherFile | None:
    """The teacher that a run began with, where it is now.

    Args:
        began: As run.json has it.
        now: Where it is; where it was, if None.
        run: The run, for messages.

    Raises:
        RunError: It is gone, is another file, or the run has none.
    """
    if began is None:
        if now is not None:
            raise RunError(f"{run} began without a teacher.", "Leave out --teacher, or start a new run with it.")
        return None
    path = Path(began.path if now is None else now).resolve()
    again = f"neurodense train --resume {shlex.quote(str(run))} --teacher FILE says where {began.name} is now."
    try:
        digest = sha256_of(path)
    except OSError as error:
        raise RunError(f"The teacher {path} cannot be read: {error.strerror or error}.", again) from None
    if digest != began.sha256:
        raise RunError(
            f"{path} is not the teacher that {run} began with: its sha256 is {digest[:16]}..., run.json says "
            f"{began.sha256[:16]}...",
            again,
        )
    return TeacherFile(str(path), digest)
