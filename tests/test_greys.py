"""Grey levels through random curves: anatomy stays, air stays, and each key does what it says."""

import pytest

torch = pytest.importorskip("torch")

from neurodense.training.greys import _PIECES, DRAWN, _random_curve, head_mask, regrey
from neurodense.training.variation import Augment

SIDE = 96
TISSUES = {"scalp": 0.9, "bone": 0.05, "brain": 0.4, "fluid": 0.1, "tumour": 0.65}


def places() -> dict[str, torch.Tensor]:
    """Masks (SIDE, SIDE) of the tissues, and of the air around the head."""
    ticks = torch.arange(SIDE) - SIDE / 2
    radius = torch.hypot(ticks / 40, ticks[:, None] / 44)
    spot = {"tumour": (14, -10), "fluid": (-12, 0)}
    near = {name: torch.hypot(ticks - x, ticks[:, None] - y) < 7 for name, (x, y) in spot.items()}
    brain = (radius < 0.82) & ~near["tumour"] & ~near["fluid"]
    bone, scalp = (radius >= 0.82) & (radius < 0.9), (radius >= 0.9) & (radius < 1)
    return {"scalp": scalp, "bone": bone, "brain": brain, "air": radius >= 1.03, **near}


def head(factor: float = 1.0) -> torch.Tensor:
    """(1, 1, SIDE, SIDE): a head with a tumour on black."""
    where = places()
    return sum(level * where[name] for name, level in TISSUES.items()).float().view(1, 1, SIDE, SIDE) * factor


def numbers(count: int, seed: int = 0) -> torch.Tensor:
    return torch.rand(count, DRAWN, generator=torch.Generator().manual_seed(seed))


def mean(pixels: torch.Tensor, name: str) -> torch.Tensor:
    """Mean grey (N,) of a tissue, without its edge."""
    inner = -torch.nn.functional.max_pool2d(-places()[name].float()[None], 3, 1, 1)[0] > 0
    return pixels[:, 0, inner].mean(1)


@pytest.mark.parametrize("level", [0.0, 0.1])
def test_the_mask_is_the_head(level: float) -> None:
    mask = head_mask(level + (1 - level) * head())[0, 0]
    where = places()
    assert mask[where["brain"] | where["tumour"] | where["fluid"] | where["bone"]].min() > 0.9
    assert mask[where["air"]].mean() < 0.03


def test_a_black_picture_has_no_head_and_stays_black() -> None:
    black = torch.zeros(2, 1, 64, 64)
    out = regrey(black, numbers(2), Augment(remap=1, equalise=1, invert=1, window=1))
    assert torch.equal(out, black)


@pytest.mark.parametrize("augment", [Augment(remap=1), Augment(equalise=1), Augment(invert=1)], ids=str)
def test_air_stays_air(augment: Augment) -> None:
    out = regrey(head().repeat(32, 1, 1, 1), numbers(32), augment)
    assert mean(out, "air").max() < 0.03


def test_curves_fill_the_scale_and_are_nowhere_level() -> None:
    u = torch.rand(500, 2 * _PIECES, generator=torch.Generator().manual_seed(1))
    curves = _random_curve(u, torch.ones(500, 1))
    assert torch.allclose(curves.amin(1), torch.zeros(500))
    assert torch.allclose(curves.amax(1), torch.ones(500))
    steps = curves.diff(dim=1)
    assert steps.abs().min() > 0.01
    falls = (steps < 0).any(1).float().mean()
    assert 0.6 < falls < 0.95, "most curves of full strength fall somewhere"
    straight = _random_curve(u, torch.zeros(500, 1))
    assert torch.allclose(straight, torch.linspace(0, 1, _PIECES + 1).expand(500, -1), atol=1e-6)


def test_a_random_curve_keeps_the_tumour_apart_from_the_brain() -> None:
    out = regrey(head().repeat(200, 1, 1, 1), numbers(200), Augment(remap=1))
    contrast = (mean(out, "tumour") - mean(out, "brain")).abs()
    assert (contrast > 0.05).float().mean() > 0.9
    order = mean(out, "tumour") < mean(out, "brain")
    assert 0.02 < order.float().mean() < 0.5, "in some views the tumour is the darker one"


def test_inverting_turns_bright_to_dark_in_a_share_of_the_views() -> None:
    pictures = head().repeat(400, 1, 1, 1)
    out = regrey(pictures, numbers(400), Augment(invert=0.3))
    turned = mean(out, "fluid") > mean(out, "tumour")
    assert 0.22 < turned.float().mean() < 0.38
    assert torch.allclose(out[~turned], pictures[~turned], atol=0.01), "within a step of the tables"


def test_equalised_greys_are_equally_frequent() -> None:
    """Of noise that is mostly dark, the lower half of the greys ends up with half of the pixels."""
    dark = head()[0, 0].gt(0) * torch.rand(64, 1, SIDE, SIDE, generator=torch.Generator().manual_seed(2)) ** 3
    inside = places()["brain"]
    u = numbers(64)
    u[:, 0] = 1
    out = regrey(dark, u, Augment(equalise=1))[:, 0, inside]
    assert dark[:, 0, inside].median() < 0.2
    half = out.quantile(0.98, dim=1) / 2
    assert ((out.median(1).values / half - 1).abs() < 0.15).all()


def test_a_window_brightens_and_darkens_all_alike() -> None:
    """A dark and a bright picture of one head can come out the same, which is what the window is for."""
    out = regrey(head(0.5).repeat(300, 1, 1, 1), numbers(300), Augment(window=1))
    brain = mean(out, "brain")
    assert brain.max() > 0.4, "brighter than the 0.2 of before"
    assert brain.min() < 0.12
    rising = mean(out, "tumour") >= mean(out, "brain")
    assert rising.all()
    assert (mean(out, "tumour") - brain > 0.02).float().mean() > 0.95
