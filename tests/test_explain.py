"""Heat maps: exact class activation maps, at the scan's size, on one scale; and the pictures of them."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from neurodense import DataError, Predictor, ScanError, read_scan
from neurodense.inference import overlay
from neurodense.inference.card import read_card, write_card
from neurodense.inference.colourmap import colours
from neurodense.inference.explain import Explanation, enlarge, evidence
from neurodense.inference.prediction import Prediction
from neurodense.notice import NOTICE
from neurodense.scans.preprocess import Preprocess
from neurodense.scans.scan import Scan
from neurodense.scans.study import Failure


@pytest.fixture(scope="module")
def predictor(finished_run: Path) -> Predictor:
    return Predictor(finished_run / "model", precision="fp32")


@pytest.fixture(scope="module")
def scan(phantoms: Path) -> Scan:
    return read_scan(sorted(phantoms.rglob("*.png"))[0])


def explanation(heat: np.ndarray, label: str = "glioma", source: str = "a/x.png", shape=(40, 40)) -> Explanation:
    pixels = np.linspace(0, 1, shape[0] * shape[1], dtype=np.float32).reshape(shape)
    return Explanation(Scan(pixels, source, 8), label, 0.75, enlarge(heat.astype(np.float32), shape), (10.0, 10.0))


def softmax(logits: np.ndarray) -> np.ndarray:
    powers = np.exp(logits - logits.max(-1, keepdims=True))
    return powers / powers.sum(-1, keepdims=True)


# The map


def test_the_means_of_the_evidence_are_the_probabilities() -> None:
    maps = np.random.default_rng(0).normal(0, 3, (5, 4, 3, 3)).astype(np.float32)
    found = evidence(maps)
    np.testing.assert_allclose(softmax(found.mean((2, 3))), softmax(maps.mean((2, 3))), atol=1e-6)
    np.testing.assert_allclose(found.sum(1), 0, atol=1e-5)
    common = np.random.default_rng(1).normal(0, 3, (5, 1, 3, 3)).astype(np.float32)
    np.testing.assert_allclose(evidence(maps + common), found, atol=1e-5)


def test_it_is_grad_cam_up_to_a_factor_and_the_bias(finished_run: Path, predictor: Predictor, phantoms: Path) -> None:
    """With Z places, Z x Grad-CAM (before its ReLU) of a logit + the logit's bias = the graph's activation map.

    And so for any difference of logits: of one against the mean of all it is the evidence that is drawn.
    """
    torch = pytest.importorskip("torch")
    from neurodense.training.network import Network
    from neurodense.training.recipe import STEPS
    from neurodense.training.weights import read_state

    classes = len(predictor.card.classes)
    network = Network(classes, predictor.card.graph.dropout).eval()
    network.load_state_dict(read_state(finished_run / "model" / "model.safetensors"))
    files = sorted(phantoms.rglob("*.png"))[::5]
    pixels = np.stack([predictor.card.preprocess(read_scan(path)) for path in files])
    graph = predictor.outputs(pixels)
    ours = evidence(graph.activation_maps)
    bias = network.classifier[1].bias.detach().numpy()
    last = STEPS.index("pool")
    for index in range(classes):
        features = torch.relu(network.between(0, last)(torch.from_numpy(pixels))).detach().requires_grad_()
        logits = network.between(last + 1, len(STEPS))(features.mean((2, 3)))
        places = features.shape[2] * features.shape[3]
        for target, exact, constant in (
            (logits[:, index], graph.activation_maps[:, index], bias[index]),
            (logits[:, index] - logits.mean(1), ours[:, index], bias[index] - bias.mean()),
        ):
            (gradient,) = torch.autograd.grad(target.sum(), features, retain_graph=True)
            weights = gradient.mean((2, 3), keepdim=True)  # Selvaraju et al., Grad-CAM, ICCV 2017, equation 1
            grad_cam = (weights * features).sum(1).detach().numpy()  # equation 2, before its ReLU
            np.testing.assert_allclose(places * grad_cam + constant, exact, atol=1e-4)


def test_a_place_keeps_its_value_on_the_scan() -> None:
    grid = np.random.default_rng(0).normal(size=(3, 4)).astype(np.float32)
    large = enlarge(grid, (3 * 11, 4 * 15))
    assert large.dtype == np.float32
    np.testing.assert_allclose(large[5::11, 7::15], grid, atol=1e-6)
    assert large.min() >= grid.min() - 1e-6
    assert large.max() <= grid.max() + 1e-6


def test_explain_gives_the_class_named_or_the_one_asked_for(predictor: Predictor, scan: Scan) -> None:
    answer = next(iter(predictor.predict([scan])))
    assert isinstance(answer, Prediction)
    found = predictor.explain(scan)
    assert found.label == answer.label
    assert found.probability == pytest.approx(answer.probabilities[answer.label])
    assert found.heat.shape == scan.pixels.shape
    assert found.heat.dtype == np.float32
    assert any("synthetic" in note for note in found.notes)
    np.testing.assert_array_equal(predictor.explain(scan.source).heat, found.heat)
    heats = [predictor.explain(scan, name).heat for name in predictor.card.classes]
    np.testing.assert_allclose(np.sum(heats, 0), 0, atol=1e-4)
    with pytest.raises(DataError, match=r"'nothing'.*'glioma'"):
        predictor.explain(scan, "nothing")


def test_a_map_of_the_cropped_head_moves_with_the_head(finished_run: Path, scan: Scan, tmp_path: Path) -> None:
    """The same head at two places of a wide picture: one answer, and the same heat at the place of the head."""
    (tmp_path / "model.onnx").write_bytes((finished_run / "model" / "model.onnx").read_bytes())
    card = read_card(finished_run / "model")
    write_card(tmp_path, card.model_copy(update={"preprocess": Preprocess(size=64, crop="head")}))
    model = Predictor(tmp_path, precision="fp32")
    found = []
    for top, left in ((20, 50), (64, 6)):
        wide = np.zeros((128, 128), dtype=np.float32)
        wide[top : top + 64, left : left + 64] = scan.pixels
        found.append(model.explain(Scan(wide, "x", 8)))
    one, other = found
    assert (one.label, one.probability) == (other.label, other.probability)
    assert one.window is not None
    assert other.window is not None
    assert np.subtract(other.window, one.window).tolist() == [44, -44, 44, -44]
    top, left, bottom, right = one.window
    assert (bottom - top, right - left) == (2 * one.place[0], 2 * one.place[1]), "the map is of 2 x 2 places"
    heat = one.heat[20:84, 50:114]
    np.testing.assert_array_equal(heat, other.heat[64:128, 6:70])
    assert heat.std() > 0
    outside = np.ones((128, 128), dtype=bool)
    outside[top:bottom, left:right] = False
    assert not one.heat[outside].any()
    heats = [model.explain(one.scan, name).heat[top:bottom, left:right] for name in card.classes]
    np.testing.assert_allclose(
        softmax(np.mean(heats, (1, 2)))[card.classes.index(one.label)], one.probability, atol=0.02
    )
    overlay.save(one, tmp_path / "o.png")
    with Image.open(tmp_path / "o.png") as picture:
        said = picture.info["Description"]
    assert f"shown rows {top + 1} to {bottom} and columns {left + 1} to {right} of the scan" in said
    assert f"mean {one.heat[top:bottom, left:right].mean():.1f};" in said


def test_explained_gives_the_same_as_predict_and_explain(predictor: Predictor, phantoms: Path) -> None:
    files = [*sorted(phantoms.rglob("*.png"))[::7], phantoms / "none.png"]
    plain = list(predictor.predict(files))
    together = list(predictor.explained(files, batch=2))
    assert isinstance(together[-1], Failure)
    assert together[-1] == plain[-1]
    for answer, result, path in zip(plain[:-1], together[:-1], files, strict=False):
        assert isinstance(answer, Prediction)
        assert not isinstance(result, Failure)
        assert result[0].label == answer.label
        (one,) = result[1]
        np.testing.assert_allclose(one.heat, predictor.explain(path).heat, atol=1e-4)


def test_a_volume_has_a_map_for_each_slice(predictor: Predictor, tmp_path: Path) -> None:
    nibabel = pytest.importorskip("nibabel")
    voxels = np.random.default_rng(0).random((30, 36, 5)).astype(np.float32)
    path = tmp_path / "scan.nii.gz"
    nibabel.Nifti1Image(voxels, np.diag([-1, -2, 3, 1])).to_filename(path)
    with pytest.raises(ScanError, match="5 slices"):
        predictor.explain(path)
    results = predictor.explained([path], "range:2-4")
    (answer,) = overlay.write_overlays(results, tmp_path / "out")
    assert isinstance(answer, Prediction)
    assert answer.overlay is None
    for number, one in zip((2, 3, 4), answer.slices, strict=True):
        assert one.source == f"{path}#{number}"
        assert one.overlay is not None
        with Image.open(one.overlay) as picture:
            assert f"{path}#{number}: {one.label}" in picture.info["Description"]
    assert len(list((tmp_path / "out").iterdir())) == 3


# The colours


def test_colours_are_plasma() -> None:
    matplotlib = pytest.importorskip("matplotlib")
    shares = np.linspace(0, 1, 256)
    assert np.abs(colours(shares) - matplotlib.colormaps["plasma"](shares)[:, :3]).max() <= 4 / 255


def test_colours_grow_lighter_evenly() -> None:
    """Lightness L* of CIE 1976 (ISO 11664-4) rises at every step, and no step is more than twice the mean one."""
    srgb = colours(np.linspace(0, 1, 33))
    linear = np.where(srgb <= 0.04045, srgb / 12.92, ((srgb + 0.055) / 1.055) ** 2.4)
    lightness = 116 * np.cbrt(linear @ (0.2126, 0.7152, 0.0722)) - 16
    steps = np.diff(lightness)
    assert (steps > 0).all()
    assert steps.max() < 2 * steps.mean()
    np.testing.assert_array_equal(colours(np.array([-1.0, 2.0])), colours(np.array([0.0, 1.0])))


# The pictures


def test_the_scale_is_the_same_in_every_picture() -> None:
    """A place of 4 logits has the same colour beside a hotter one, and the bar reads back what was drawn."""
    mild, wild = np.full((4, 4), 4.0), np.full((4, 4), 4.0)
    wild[3, 3] = 20.0
    black = Scan(np.zeros((40, 40), dtype=np.float32), "x", 8)
    drawn = [
        np.asarray(overlay.draw(Explanation(black, "a", 0.5, enlarge(heat.astype(np.float32), (40, 40)), (10.0, 10.0))))
        for heat in (mild, wild)
    ]
    top_left = [picture[picture.shape[0] // 5, 540] for picture in drawn]
    np.testing.assert_array_equal(*top_left)
    wanted = colours(np.array([4 / overlay.FULL_SCALE]))[0]
    ratio = top_left[0] / 255 / wanted
    np.testing.assert_allclose(ratio, ratio.mean(), rtol=0.03)


def test_the_line_encloses_the_hottest_tenth() -> None:
    heat = enlarge(np.random.default_rng(0).random((4, 4)).astype(np.float32), (400, 400))
    line, halo = overlay._outline(heat)
    assert line.any()
    assert (halo & line).sum() == line.sum()
    touched = heat[line]
    level = np.quantile(heat, 0.9)
    assert np.abs(touched - level).max() < 0.05, "the line follows one level"
    for flat in (np.full((9, 9), 2.0, np.float32), -heat):
        assert not overlay._outline(flat)[0].any(), "nothing stands out, or nothing speaks for the class"


@pytest.mark.parametrize("label", ["glioma", "胶质瘤", "$x^2$", "أورام", "a\x00b\n", "\udcff", "x" * 300, "", "🧠"])
def test_any_name_can_be_drawn(label: str, tmp_path: Path) -> None:
    path = tmp_path / "o.png"
    overlay.save(explanation(np.eye(4) * 5, label, source=f"folder/{label}.png"), path)
    with Image.open(path) as picture:
        picture.load()
        assert NOTICE in picture.info["Description"]
        assert picture.width < 1400


def test_two_names_that_the_font_cannot_draw_stay_two() -> None:
    font = overlay._font(15)
    assert overlay._drawable("méningiome e\u0301 a–b", font) == "meningiome e a\\u2013b"
    assert overlay._drawable("胶", font) == "\\u80f6" != overlay._drawable("瘤", font)


@pytest.mark.parametrize("shape", [(8, 8), (8, 2000), (2000, 8), (900, 700)])
def test_any_size_of_scan_is_shown_at_one_size(shape: tuple[int, int]) -> None:
    picture = overlay.draw(explanation(np.eye(4) * 5, shape=shape))
    assert 600 <= picture.width <= 1200
    assert picture.height <= 900


def test_proportions_are_those_of_the_patient() -> None:
    flat = Scan(np.zeros((50, 100), dtype=np.float32), "x", 8, spacing=(4.0, 1.0))
    height, width = overlay._panel_size(Explanation(flat, "a", 0.5, np.zeros((50, 100), np.float32), (1.0, 1.0)))
    assert height == 2 * width


def test_file_names_neither_collide_nor_escape() -> None:
    sources = ["a/x.png", "b/x.png", "b/X.png", "x.png", "../x.png", "..", "", "/", "a\\x.png", "s.nii.gz#87", "\udcff"]
    sources += ["é.png", "e\u0301.png", "胶" * 200 + ".png", "a/CON", "x.png\n"]
    names = [overlay.file_name(source) for source in sources]
    assert len({name.lower() for name in names}) == len(sources)
    for name in names:
        assert not {"/", "\\", "\0", "\n", ":"} & set(name)
        assert not name.startswith(".")
        assert name.endswith(".png")
        assert len(name.encode()) <= 255
    assert overlay.file_name("a/s.nii.gz#87").startswith("s.nii.gz#87-")


def test_the_command_line_writes_a_picture_for_each_good_file(
    finished_run: Path, phantoms: Path, tmp_path: Path, command: list[str]
) -> None:
    good = sorted(phantoms.rglob("*.png"))[0]
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "x.png").write_bytes(good.read_bytes())
    (tmp_path / "bad.png").write_bytes(b"no picture")
    inputs = ["a/x.png", "bad.png", "b/x.png"]
    result = subprocess.run(
        [*command, "predict", *inputs, "--model", finished_run / "model", "--explain", "out", "--format", "json"],
        capture_output=True, text=True, check=False, cwd=tmp_path,
    )  # fmt: skip
    assert result.returncode == 1, result.stderr
    first, bad, second = map(json.loads, result.stdout.splitlines())
    assert bad["error"]["type"] == "ScanError"
    assert first["overlay"] != second["overlay"]
    assert {tmp_path / first["overlay"], tmp_path / second["overlay"]} == set((tmp_path / "out").iterdir())
    with Image.open(tmp_path / first["overlay"]) as picture:
        assert "synthetic" in picture.info["Description"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "b", "bad.png", "out"]


def test_drawing_needs_no_matplotlib_and_no_torch() -> None:
    code = "import sys, neurodense.inference.overlay; assert not {'torch', 'matplotlib'} & sys.modules.keys()"
    subprocess.run([sys.executable, "-c", code], check=True)
