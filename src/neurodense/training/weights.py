"""Starting weights: torchvision's ImageNet ones, the shipped model's, a file, or none."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.error import URLError
from urllib.parse import urlparse

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor
from torchvision.models import DenseNet121_Weights

from neurodense.errors import WeightsError
from neurodense.inference.shipped import BRAIN, model_folder
from neurodense.training.network import Network

# DenseNet weights were once saved with `norm.1` where the modules are named `norm1`.
# https://github.com/pytorch/vision/blob/main/torchvision/models/densenet.py (_load_state_dict)
_OLD_KEY = re.compile(r"^(.*denselayer\d+\.(?:norm|relu|conv))\.([12]\.(?:weight|bias|running_mean|running_var))$")


@dataclass(frozen=True)
class Start:
    """Starting weights that were read but not loaded yet: `state` is None where there are none."""

    state: dict[str, Tensor] | None
    origin: str
    path: Path | None = None


def read_weights(weights: str | Path) -> Start:
    """Read starting weights.

    Args:
        weights: "imagenet", "brain" (the shipped model's), "none", or a .pth / .pt / .safetensors file.

    Raises:
        WeightsError: Not there or not readable.
        ModelError: There is no shipped model.
    """
    if str(weights) == "none":
        return Start(None, "none: random initial weights")
    if str(weights) == "imagenet":
        path, origin = _imagenet(), f"torchvision {DenseNet121_Weights.IMAGENET1K_V1}"
    elif str(weights) == BRAIN:
        path, origin = model_folder(BRAIN) / "model.safetensors", f"{BRAIN}, the model of the package"
    else:
        path, origin = Path(weights), f"file {Path(weights).name}"
    state = read_state(path)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    return Start(state, f"{origin} (sha256 {digest[:16]})", path)


def load_weights(network: Network, start: Start) -> str:
    """Load starting weights into `network`: its feature layers, and its classifier where the file's has its shape.

    Returns:
        Where the weights come from, for the card.

    Raises:
        WeightsError: They are not DenseNet121's.
    """
    if start.state is None or start.path is None:
        return start.origin
    kept = _fit(network, start.state, start.path)
    return f"{start.origin}, classifier {'from the file' if kept else 'new'}"


def read_state(path: Path) -> dict[str, Tensor]:
    """Read a state dict without running code from it: safetensors, or a .pth through `weights_only=True`."""
    if not path.is_file():
        raise WeightsError(
            f"There is no weights file {path}.",
            "--weights takes imagenet, brain, none, or a .pth or .safetensors file.",
        )
    try:
        if path.suffix == ".safetensors":
            return dict(load_file(path))
        state: Any = torch.load(path, map_location="cpu", weights_only=True)
    except (SafetensorError, OSError, RuntimeError, ValueError, KeyError, EOFError) as error:
        raise WeightsError(f"{path} cannot be read as weights: {error}") from error
    except Exception as error:  # pickle.UnpicklingError; torch's own text advises to load it all the same
        with path.open("rb") as handle:
            start = handle.read(2)
        if start != b"PK" and start[:1] != b"\x80":  # neither torch's zip nor a plain pickle
            raise WeightsError(f"{path} is no torch file: it starts with {start!r}.") from error
        raise WeightsError(
            f"{path} holds more than tensors, and a pickle that could run code is never loaded.",
            'Save it anew as a state dict: torch.save(model.state_dict(), "weights.pth")',
        ) from error
    for key in ("state_dict", "model_state_dict", "model"):
        if isinstance(state, dict) and isinstance(state.get(key), dict):
            state = state[key]
    if not isinstance(state, dict) or not all(isinstance(value, Tensor) for value in state.values()):
        raise WeightsError(f"{path} is no state dict: a dictionary of names and tensors is needed.")
    return {str(key): value for key, value in state.items()}


def _fit(network: Network, state: dict[str, Tensor], path: Path) -> bool:
    """Load the feature layers, and the classifier if it fits; True if it did."""
    state = {_OLD_KEY.sub(r"\1\2", key.removeprefix("module.")): value for key, value in state.items()}
    own = network.state_dict()
    wanted = {key for key in own if key.startswith("features.")}
    given = {key for key in state if not key.startswith("classifier.")}
    problems = []
    if missing := sorted(key for key in wanted - given if not key.endswith("num_batches_tracked")):
        problems.append(f"{len(missing)} missing: {_some(missing)}")
    if unexpected := sorted(given - wanted):
        problems.append(f"{len(unexpected)} unexpected: {_some(unexpected)}")
    if shapes := sorted(key for key in wanted & given if own[key].shape != state[key].shape):
        key = shapes[0]
        problems.append(
            f"{len(shapes)} of another shape: {key} is {tuple(state[key].shape)}, not {tuple(own[key].shape)}"
        )
    if problems:
        raise WeightsError(f"{path} does not hold DenseNet121's weights. Keys " + "; ".join(problems) + ".")
    head = {key for key in own if key.startswith("classifier.")}
    fits = all(key in state and state[key].shape == own[key].shape for key in head)
    network.load_state_dict({key: state[key] for key in (wanted & given) | (head if fits else set())}, strict=False)
    return fits


def _some(names: list[str], count: int = 5) -> str:
    return ", ".join(names[:count]) + (", ..." if len(names) > count else "")


def _imagenet() -> Path:
    """Path of the ImageNet weights in torch's own cache, downloaded if need be."""
    url = DenseNet121_Weights.IMAGENET1K_V1.url
    name = Path(urlparse(url).path).name
    path = Path(torch.hub.get_dir()) / "checkpoints" / name
    if path.is_file():
        return path
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        torch.hub.download_url_to_file(url, str(path), hash_prefix=name.rpartition("-")[2].split(".")[0])
    except (URLError, OSError, RuntimeError) as error:
        raise WeightsError(
            f"The ImageNet weights of DenseNet121 are not at {path}, and fetching {url} failed: {error}",
            f"One of: (1) fetch {name} on another machine and put it at {path}; "
            f"(2) --weights FILE with a .pth or .safetensors of DenseNet121; "
            "(3) --weights brain, which comes with neurodense, or --weights none --recipe scratch, which needs none.",
        ) from error
    return path
