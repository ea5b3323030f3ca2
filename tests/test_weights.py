import re
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")

from safetensors.torch import save_file
from torchvision.models import DenseNet121_Weights, densenet121

from neurodense.errors import WeightsError
from neurodense.training.network import Network
from neurodense.training.weights import load_weights, read_weights


@pytest.fixture(scope="module")
def imagenet_like() -> dict[str, torch.Tensor]:
    """A state dict of the form of torchvision's file: 1,000 classes, other values than a fresh network's."""
    torch.manual_seed(9)
    return densenet121(weights=None).state_dict()


def old_style(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The keys that torchvision's file has to this day: `norm.1` for `norm1`, and no batch counts."""
    return {
        re.sub(r"(denselayer\d+\.(?:norm|conv))([12])", r"\1.\2", key): value
        for key, value in state.items()
        if "num_batches_tracked" not in key
    }


def features_equal(network: Network, state: dict[str, torch.Tensor]) -> bool:
    own = network.state_dict()
    return all(torch.equal(own[key], state[key]) for key in own if key.startswith("features.") and "tracked" not in key)


def test_imagenet_weights_come_from_the_cache_of_torch(
    imagenet_like: dict[str, torch.Tensor], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    name = DenseNet121_Weights.IMAGENET1K_V1.url.rsplit("/", 1)[1]
    path = tmp_path / "hub" / "checkpoints" / name
    path.parent.mkdir(parents=True)
    torch.save(old_style(imagenet_like), path)
    network = Network(4, 0.3)
    origin = load_weights(network, read_weights("imagenet"))
    assert "IMAGENET1K_V1" in origin
    assert "classifier new" in origin
    assert features_equal(network, imagenet_like)


def test_offline_and_not_cached_names_three_ways_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from urllib.error import URLError

    monkeypatch.setenv("TORCH_HOME", str(tmp_path))

    def no_network(*_: object, **__: object) -> None:
        raise URLError("no network")

    monkeypatch.setattr(torch.hub, "download_url_to_file", no_network)
    with pytest.raises(WeightsError) as caught:
        load_weights(Network(4, 0.3), read_weights("imagenet"))
    text = str(caught.value)
    assert str(tmp_path) in text
    assert all(way in text for way in ("(1)", "(2) --weights FILE", "(3) --weights brain", "--weights none"))


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_a_file_gives_its_features_and_its_fitting_classifier(
    imagenet_like: dict[str, torch.Tensor], tmp_path: Path, suffix: str
) -> None:
    torch.manual_seed(5)
    source = Network(3, 0.3)
    path = tmp_path / f"w{suffix}"
    if suffix == ".pth":
        torch.save({"state_dict": {f"module.{k}": v for k, v in source.state_dict().items()}}, path)
    else:
        save_file(source.state_dict(), path)
    same, other = Network(3, 0.3), Network(4, 0.3)
    assert "classifier from the file" in load_weights(same, read_weights(path))
    assert "classifier new" in load_weights(other, read_weights(path))
    assert torch.equal(same.classifier[1].weight, source.classifier[1].weight)
    assert features_equal(other, source.state_dict())


def test_a_mismatch_lists_the_keys(imagenet_like: dict[str, torch.Tensor], tmp_path: Path) -> None:
    state = dict(imagenet_like)
    state["features.extra"] = state.pop("features.conv0.weight")
    state["features.norm5.weight"] = torch.zeros(7)
    torch.save(state, tmp_path / "w.pth")
    with pytest.raises(WeightsError) as caught:
        load_weights(Network(4, 0.3), read_weights(tmp_path / "w.pth"))
    text = str(caught.value)
    assert "1 missing: features.conv0.weight" in text
    assert "1 unexpected: features.extra" in text
    assert "features.norm5.weight is (7,), not (1024,)" in text


class Evil:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return (exec, ("raise SystemExit('code ran')",))


def test_a_pickle_that_would_run_code_is_refused(tmp_path: Path) -> None:
    torch.save({"weights": Evil()}, tmp_path / "w.pth")
    with pytest.raises(WeightsError, match="never loaded"):
        load_weights(Network(4, 0.3), read_weights(tmp_path / "w.pth"))


@pytest.mark.parametrize("content", [b"", b"not weights at all"])
@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_a_damaged_file_is_an_error(tmp_path: Path, content: bytes, suffix: str) -> None:
    path = tmp_path / f"w{suffix}"
    path.write_bytes(content)
    with pytest.raises(WeightsError, match=r"w\.(pth|safetensors) (cannot be read|is no torch file)"):
        load_weights(Network(4, 0.3), read_weights(path))


def test_a_missing_file_says_what_is_allowed(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="imagenet, brain, none, or"):
        load_weights(Network(4, 0.3), read_weights(tmp_path / "none.pth"))
