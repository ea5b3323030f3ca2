"""Margins, background, resolution, noise, blocks and marks: each against what it says of itself."""

import math

import pytest

torch = pytest.importorskip("torch")

from torch.nn import functional

from neurodense.training.framing import FRAME_DRAWN, add_rician, coarsen, compress, raise_background, reframe
from neurodense.training.marks import DRAWN, add_marks


def rand(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed))


def smooth(count: int, side: int) -> torch.Tensor:
    """(count, 1, side, side) without fine detail."""
    return functional.interpolate(rand(count, 1, 6, 6), (side, side), mode="bicubic").clamp(0, 1)


def test_trimming_shows_the_inside() -> None:
    picture = smooth(1, 100)
    u = torch.tensor([[0.0, 1.0, 1.0, 1.0, 1.0, 1.0, 0.0]])  # the largest share at each of the four edges
    found = reframe(picture, u, 0.1, 0)
    wanted = functional.interpolate(picture[..., 10:90, 10:90], (100, 100), mode="bilinear")
    assert (found - wanted)[..., 2:-2, 2:-2].abs().max() < 0.02


@pytest.mark.parametrize(("number", "grey"), [(0.3, 0.0), (0.8, 0.6)])
def test_padding_keeps_all_of_the_picture_in_an_even_border(number: float, grey: float) -> None:
    picture = smooth(1, 100)
    u = torch.tensor([[0.9, 1.0, 0.5, 0.25, 1.0, 0.0, number]])
    found = reframe(picture, u, 0, 0.4)
    # The picture is 1 of 1 + 0.2 + 0.1 across and of 1 + 0.4 down.
    left, right = math.ceil(100 * 0.2 / 1.3), math.floor(100 * 1.2 / 1.3)
    top = math.ceil(100 * 0.4 / 1.4)
    wanted = functional.interpolate(picture, (100 - top, right - left), mode="bilinear", antialias=True)
    assert (found[..., top:, left:right] - wanted).abs().mean() < 0.03
    border = torch.cat(
        [found[..., : top - 1, :].flatten(), found[..., : left - 1].flatten(), found[..., right + 1 :].flatten()]
    )
    assert torch.allclose(border, torch.tensor(grey), atol=1e-6)


def test_with_both_some_views_are_trimmed_and_some_padded() -> None:
    ones = torch.ones(200, 1, 32, 32)
    u = rand(200, FRAME_DRAWN)
    u[:, 6] = 0
    padded = (reframe(ones, u, 0.2, 0.3) == 0).any(-1).any(-1)[:, 0]
    assert not padded[u[:, 0] < 0.5].any()
    assert 0.3 < padded.float().mean() < 0.6
    assert not (reframe(ones, u, 0.2, 0) == 0).any()


def test_haze_lifts_black_and_leaves_the_head_or_its_order() -> None:
    picture = torch.zeros(2, 1, 64, 64)
    picture[:, :, 16:48, 16:48] = 0.6
    everywhere, around = raise_background(picture, torch.tensor([[0.5, 0.1], [0.5, 0.9]]), 0.4)
    assert torch.allclose(everywhere[0, 0, 0], torch.tensor(0.2))
    assert torch.allclose(everywhere[0, 32, 32], torch.tensor(0.2 + 0.8 * 0.6))
    assert torch.allclose(around[0, 0, 0], torch.tensor(0.2))
    assert torch.allclose(around[0, 20:44, 20:44], torch.tensor(0.6))


def test_coarse_pixels_lose_detail_along_their_axis_only() -> None:
    picture = rand(1, 1, 64, 64)
    rows = coarsen(picture, torch.tensor([[1.0, 0.2]]), 0.75)
    change = {axis: rows.diff(dim=axis).abs().mean() / picture.diff(dim=axis).abs().mean() for axis in (2, 3)}
    assert change[2] < 0.25
    assert change[3] > 2 * change[2]
    assert torch.equal(coarsen(picture, torch.tensor([[0.4, 0.5]]), 0.75), picture)
    assert (coarsen(smooth(1, 64), torch.ones(1, 2), 0.5) - smooth(1, 64)).abs().max() < 0.15


def test_rician_noise_has_the_moments_of_rice() -> None:
    """In air the mean is sd sqrt(pi / 2) and the variance sd^2 (2 - pi / 2); far above the noise it is normal."""
    picture = torch.zeros(1, 1, 200, 200)
    picture[..., 100:, :] = 0.8
    noise = torch.randn(1, 2, 200, 200, generator=torch.Generator().manual_seed(0))
    out = add_rician(picture, noise, torch.tensor([[0.1]]))
    deviation = 0.1 * 0.8 / math.sqrt(2)  # a tenth of the root mean square
    air, head = out[..., :100, :], out[..., 100:, :]
    assert air.mean().item() == pytest.approx(deviation * math.sqrt(math.pi / 2), rel=0.02)
    assert air.var().item() == pytest.approx(deviation**2 * (2 - math.pi / 2), rel=0.05)
    assert head.mean().item() == pytest.approx(0.8 + deviation**2 / 1.6, rel=0.002)
    assert head.std().item() == pytest.approx(deviation, rel=0.03)


@pytest.mark.parametrize("side", [64, 60])
def test_blocks_are_those_of_a_cosine_transform(side: int) -> None:
    picture = rand(2, 1, side, side)
    assert torch.allclose(compress(picture, torch.tensor([[0.3], [0.5]]), 1), picture, atol=1e-5), "half of the time"
    out = compress(picture, torch.ones(2, 1), 1)
    assert out.shape == picture.shape
    assert 0.02 < (out - picture).abs().mean() < 0.2
    whole = side // 8 * 8
    means = [functional.avg_pool2d(x[..., :whole, :whole], 8) for x in (out, picture)]
    assert (means[0] - means[1]).abs().max() <= 0.025 / 2 + 1e-5, "the step of a block's mean"
    again = compress(out[..., :whole, :whole], torch.ones(2, 1), 1)
    assert torch.allclose(again, out[..., :whole, :whole], atol=1e-4), "what was rounded stays"
    level = torch.full((1, 1, side, side), 0.5)
    assert torch.allclose(compress(level, torch.ones(1, 1), 1), level, atol=1e-5)


def test_marks_lie_at_the_edges_of_a_share_of_the_pictures() -> None:
    black = torch.zeros(300, 1, 128, 128)
    out = add_marks(black, rand(300, DRAWN), 0.4)
    marked = out.amax((1, 2, 3)) > 0
    assert 0.3 < marked.float().mean() < 0.5
    assert not out[..., 32:96, 32:96].any()
    assert out[marked].amax((1, 2, 3)).min() > 0.4
    assert out.max() <= 1
    assert not black.any(), "the pictures that were given stay as they are"
    covered = (out[marked] > 0).float().mean((1, 2, 3))
    assert 0.001 < covered.median() < 0.15
    assert torch.equal(add_marks(black, rand(300, DRAWN), 0), black)


@pytest.mark.parametrize("side", [32, 64, 225, 512])
def test_marks_fit_any_side(side: int) -> None:
    grey = torch.full((60, 1, side, side), 0.2)
    out = add_marks(grey, rand(60, DRAWN, seed=3), 1)
    assert (out >= grey).all()
    assert (out > grey).any((1, 2, 3)).float().mean() > 0.9
