import pytest

torch = pytest.importorskip("torch")

from torch import nn
from torchvision.models import densenet121

from neurodense.training.network import MEAN, STD, Network, trainable_parameters, training_mode
from neurodense.training.recipe import STEPS


@pytest.fixture(scope="module")
def network() -> Network:
    torch.manual_seed(1)
    return Network(4, 0.3).eval()


def reference(network: Network) -> nn.Module:
    """torchvision's own model with the notebook's classifier and the same weights."""
    model = densenet121(weights=None)
    model.classifier = nn.Sequential(nn.Dropout(0.3), nn.Linear(1024, 4))
    model.load_state_dict(network.state_dict())  # strict: the names are torchvision's
    return model.eval()


def test_logits_are_those_of_torchvision(network: Network) -> None:
    pixels = torch.rand(3, 1, 64, 64)
    colour = (pixels.expand(-1, 3, -1, -1) - torch.tensor(MEAN).view(3, 1, 1)) / torch.tensor(STD).view(3, 1, 1)
    with torch.inference_mode():
        torch.testing.assert_close(network(pixels), reference(network)(colour), atol=1e-5, rtol=1e-5)


def test_steps_are_the_whole_network_in_order(network: Network) -> None:
    inside = [parameter for name in STEPS for parameter in network.step(name).parameters()]
    assert len(inside) == len(list(network.parameters()))
    assert {id(p) for p in inside} == {id(p) for p in network.parameters()}


@pytest.mark.parametrize("cut", range(len(STEPS)))
def test_prefix_then_suffix_is_the_network(network: Network, cut: int) -> None:
    pixels = torch.rand(2, 1, 64, 64)
    with torch.inference_mode():
        both = network.between(cut, len(STEPS))(network.between(0, cut)(pixels))
        assert torch.equal(both, network(pixels))


def test_activation_maps_average_to_the_logits(network: Network) -> None:
    with torch.inference_mode():
        logits, maps, features = network.explain(torch.rand(3, 1, 96, 96))
        again = network(torch.zeros(1, 1, 96, 96))
    assert maps.shape == (3, 4, 3, 3)
    assert features.shape == (3, 1024)
    assert again.shape == (1, 4)
    torch.testing.assert_close(maps.mean((2, 3)), logits, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(
    ("trainable", "prefixes"),
    [
        (["classifier"], ("classifier.",)),
        (["denseblock4", "classifier"], ("features.denseblock4.", "classifier.")),
        (["denseblock4", "norm5", "classifier"], ("features.denseblock4.", "features.norm5.", "classifier.")),
        (["stem"], ("features.conv0.", "features.norm0.")),
        (["all"], ("features.", "classifier.")),
    ],
)
def test_exactly_the_named_parts_train(network: Network, trainable: list[str], prefixes: tuple[str, ...]) -> None:
    chosen = trainable_parameters(network, trainable)
    assert set(chosen) == {name for name, _ in network.named_parameters() if name.startswith(prefixes)}
    assert {name for name, p in network.named_parameters() if p.requires_grad} == set(chosen)


@pytest.mark.parametrize("still", [False, True])
def test_frozen_norms_are_in_eval_mode(network: Network, still: bool) -> None:
    training_mode(network, ["denseblock4", "classifier"], still=still)
    moving = {
        name for name, module in network.named_modules() if isinstance(module, nn.BatchNorm2d) and module.training
    }
    block4 = {
        name
        for name, module in network.named_modules()
        if isinstance(module, nn.BatchNorm2d) and name.startswith("features.denseblock4.")
    }
    assert moving == (set() if still else block4)
    assert network.classifier[0].training
    network.eval()
