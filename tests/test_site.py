"""The static site in a real browser: the same answers as the command, and no request once the model is there."""

import base64
import hashlib
import io
import json
import os
import re
import shutil
import subprocess
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import not_there
from PIL import Image
from safetensors.numpy import save_file

from benchmarks.site import served
from neurodense.errors import DataError, EngineError, ModelError
from neurodense.inference.appearance import NUMBERS, Appearance, describe
from neurodense.inference.appearance import pictures as shown
from neurodense.inference.card import read_card, write_card
from neurodense.inference.predictor import Predictor
from neurodense.inference.rejection import Rejection
from neurodense.inference.scaling import calibrated
from neurodense.scans.preprocess import Preprocess
from neurodense.scans.read import read_scan
from neurodense.scans.scan import Scan
from neurodense.serving import runtime
from neurodense.serving.runtime import FILES, Runtime, find_runtime
from neurodense.serving.site import write_site

WAIT_MS = 30_000
CLOSE = 0.02
"""Largest difference in probability between browser and command."""


@pytest.fixture(scope="module")
def site(browser: Any, finished_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Address of the site of a small model, behind Python's own static server, below a folder."""
    given = os.environ.get("NEURODENSE_ORT_WEB")
    if given is None:
        not_there("no onnxruntime-web is given by NEURODENSE_ORT_WEB")
    folder = tmp_path_factory.mktemp("www")
    write_site(finished_run / "model", folder / "below" / "it", find_runtime(Path(given), folder, fetch=False))
    with served(folder) as address:
        yield f"{address}below/it/"


@pytest.fixture
def page(browser: Any, site: str) -> Iterator[Any]:
    """The page, its model loaded; a script error or a request to another host fails the test."""
    context = browser.new_context(viewport={"width": 1280, "height": 900})
    page = context.new_page()
    errors: list[str] = []
    page.on("pageerror", lambda error: errors.append(str(error)))
    context.on("request", lambda asked: asked.url.startswith((site, "blob:")) or errors.append(asked.url))
    page.goto(site)
    page.locator("#model", has_text=re.compile("^Model .*, (int8|fp32)")).wait_for(timeout=WAIT_MS)
    yield page
    context.close()
    assert not errors


@pytest.fixture(scope="module")
def modules(browser: Any, site: str) -> Iterator[Any]:
    """The page once, for tests that call its modules."""
    page = browser.new_page()
    page.goto(site)
    yield page
    page.close()


def add(page: Any, paths: Any, count: int) -> None:
    page.set_input_files("#files", paths)
    page.locator(".card.done").nth(count - 1).wait_for(timeout=WAIT_MS)


def exported(page: Any) -> dict[str, Any]:
    with page.expect_download() as waiting:
        page.click("#json")
    return json.loads(Path(waiting.value.path()).read_text(encoding="utf-8"))


def test_the_answers_are_those_of_the_command_and_nothing_is_sent(
    page: Any, finished_run: Path, phantoms: Path, tmp_path: Path
) -> None:
    paths = sorted(phantoms.rglob("*.png"))[::5]
    asked: list[str] = []
    page.context.on("request", lambda request: request.url.startswith("blob:") or asked.append(request.url))
    page.context.set_offline(True)
    (tmp_path / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n no picture")
    add(page, [*paths, tmp_path / "broken.png"], len(paths) + 1)
    said = exported(page)
    assert asked == [], "once the model is there, nothing is asked for"
    precision = said["model"]["precision"]
    assert said["model"]["engine"].startswith("onnxruntime-web")
    assert f", {precision}. The model was trained on synthetic" in page.locator("#model").inner_text()
    there = {one["source"]: one for one in said["predictions"]}
    assert "cannot be decoded" in there["broken.png"]["error"]["message"]
    for path, here in zip(
        paths, Predictor(finished_run / "model", precision=precision, threads=1).predict(paths), strict=True
    ):
        one = there[path.name]
        assert set(one) == {"source", "label", "probabilities"}, "what was not computed is not there"
        assert one["probabilities"] == pytest.approx(here.probabilities, abs=CLOSE)


def test_a_real_model_and_real_images(browser: Any, site: str, shared_data: Path, tmp_path: Path) -> None:
    """With NEURODENSE_MODEL: the folder of a model with an int8 graph that was trained on such images."""
    model = os.environ.get("NEURODENSE_MODEL")
    if model is None:
        pytest.skip("no model folder is given by NEURODENSE_MODEL")
    every = sorted((shared_data / "brain-mri").rglob("*.jpg"))
    paths = every[:: len(every) // 24]
    write_site(
        Path(model), tmp_path / "site", find_runtime(Path(os.environ["NEURODENSE_ORT_WEB"]), tmp_path, fetch=False)
    )
    with served(tmp_path / "site") as address:
        page = browser.new_page()
        page.goto(address)
        add(page, paths, len(paths))
        there = {one["source"]: one for one in exported(page)["predictions"]}
        page.close()
    for path, here in zip(paths, Predictor(model, precision="int8", threads=1).predict(paths), strict=True):
        assert there[path.name]["probabilities"] == pytest.approx(here.probabilities, abs=CLOSE)


def test_the_heat_map_is_that_of_the_command(page: Any, finished_run: Path, phantoms: Path) -> None:
    path = sorted(phantoms.rglob("*.png"))[0]
    add(page, path, 1)
    page.locator(".card .open").click()
    page.locator("#controls").wait_for(timeout=WAIT_MS)
    page.locator("#stage-state").wait_for(state="hidden")
    assert page.get_by_text("One request").count() == 0, "there are no requests here"
    found = page.evaluate(
        """async () => {
            const { Client } = await import("./page/client.js"), client = new Client();
            await client.model();
            const one = (await client.explain(FILES, 512))["explanations"][0], [slice] = one.slices;
            return { ...slice, levels: [...slice.levels], prediction: one.prediction };
        }""".replace("FILES", given(path))
    )
    predictor = Predictor(
        finished_run / "model",
        precision=page.evaluate("async () => (await (await fetch('model.json')).json()).precision"),
    )
    scan = read_scan(path)
    maps = calibrated(predictor.card, predictor.outputs(predictor.card.preprocess(scan)[np.newaxis]).activation_maps)[0]
    evidence = maps - maps.mean(axis=0)
    assert np.array([found["evidence"][name] for name in predictor.card.classes]) == pytest.approx(evidence, abs=0.2)
    assert (found["rows"], found["columns"]) == scan.pixels.shape
    assert np.array(found["levels"]).reshape(scan.pixels.shape) / 65535 == pytest.approx(scan.pixels, abs=1e-4)
    assert found["window"] == [0, 0, 1, 1]


def test_neither_page_nor_worker_reaches_another_host(page: Any, tmp_path: Path) -> None:
    with served(tmp_path) as other:
        ask = f"() => fetch('{other}', {{ mode: 'no-cors' }}).then(() => 'sent', () => 'refused')"
        said = [where.evaluate(ask) for where in (page.main_frame, *page.workers)]
    assert len(said) >= 2
    assert set(said) == {"refused"}


def given(path: Path) -> str:
    """A script that makes a file of what is in `path`."""
    content = base64.b64encode(path.read_bytes()).decode("ascii")
    made = f"new File([Uint8Array.from(atob('{content}'), (letter) => letter.charCodeAt(0))], 'a')"
    return f"[{{ path: {path.name!r}, file: {made} }}]"


def read_in_browser(page: Any, path: Path) -> dict[str, Any]:
    return page.evaluate(
        """async () => {
            const { readStudies } = await import("./page/study.js");
            const [study] = await readStudies(FILES);
            if (study.error) return { error: study.error.message };
            const scans = study.scans.map(({ source, read }) => ({ source, ...read() }));
            for (const scan of scans) scan.pixels = [...scan.pixels];
            return { ...study, scans };
        }""".replace("FILES", given(path))
    )


def pictures(folder: Path) -> dict[str, float]:
    """Files of each kind, and how far their grey may be from Pillow's."""
    rng = np.random.default_rng(0)
    smooth = np.linspace(0, 255, 40 * 30).reshape(30, 40) + rng.uniform(-20, 20, (30, 40))
    grey = Image.fromarray(smooth.clip(0, 255).astype(np.uint8))
    colour = Image.merge("RGB", [grey, grey.rotate(180), grey.point(lambda value: 255 - value)])
    grey.save(folder / "grey.png")
    colour.save(folder / "colour.png")
    colour.save(folder / "colour.bmp")
    colour.save(folder / "lossless.webp", lossless=True)
    colour.convert("P").save(folder / "palette.gif")
    colour.putalpha(grey)
    colour.save(folder / "clear.png")
    grey.convert("1").save(folder / "bits.png")
    grey.save(folder / "grey.jpg", quality=90)
    colour.convert("RGB").save(folder / "colour.jpg", quality=90)
    turned = Image.Exif()
    turned[274] = 6
    grey.save(folder / "turned.jpg", quality=90, exif=turned)
    Image.fromarray(rng.integers(0, 4096, (30, 40)).astype(np.uint16)).save(folder / "deep.png")
    level = 1 / 255
    exact = dict.fromkeys(
        ("grey.png", "colour.png", "colour.bmp", "lossless.webp", "palette.gif", "bits.png", "deep.png"), 1e-06
    )
    return exact | {
        "clear.png": 1.5 * level,
        "grey.jpg": 1.01 * level,
        "turned.jpg": 1.01 * level,
        "colour.jpg": 2.01 * level,
    }


def test_pictures_are_read_as_the_command_reads_them(modules: Any, tmp_path: Path) -> None:
    for name, bound in pictures(tmp_path).items():
        found, expected = read_in_browser(modules, tmp_path / name), read_scan(tmp_path / name).pixels
        assert "error" not in found, found
        (scan,) = found["scans"]
        assert (scan["height"], scan["width"]) == expected.shape, name
        assert np.array(scan["pixels"]).reshape(expected.shape) == pytest.approx(expected, abs=bound), name


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("a.tif", b"II*\0" + bytes(400), ["is a TIFF", "This site reads JPEG"]),
        ("a.zip", b"PK\x03\x04" + bytes(400), ["zip archive", "unpacked"]),
        ("a.dcm", bytes(128) + b"DICM" + bytes(400), ["is a DICOM file", "neurodense serve reads more"]),
        ("a.nii", bytes(344) + b"n+1\0" + bytes(400), ["is a NIfTI volume"]),
        ("a.nii.gz", b"\x1f\x8b" + bytes(400), ["gzip", "NIfTI"]),
        ("a.png", b"hello", ["of no format that is known here, whatever its name says"]),
        ("a.png", b"", ["empty"]),
        ("a.jpg", b"\xff\xd8\xff" + bytes(40), ["cannot be decoded", "damaged JPEG"]),
    ],
)
def test_what_is_not_read_is_said(modules: Any, tmp_path: Path, name: str, content: bytes, words: list[str]) -> None:
    (tmp_path / name).write_bytes(content)
    said = read_in_browser(modules, tmp_path / name)["error"]
    assert all(word in said for word in (name, *words)), said


@pytest.mark.parametrize(
    "rules",
    [
        Preprocess(size=64),
        Preprocess(size=96, crop="head"),
        Preprocess(size=48, crop="head", intensity="percentile"),
        Preprocess(size=224, intensity="percentile"),
    ],
    ids=["whole", "head", "head, percentile", "percentile"],
)
def test_the_preprocessing_is_that_of_python(modules: Any, rules: Preprocess) -> None:
    rng = np.random.default_rng(1)
    y, x = np.mgrid[:150, :201]
    head = (((y - 60) / 45) ** 2 + ((x - 130) / 60) ** 2 < 1) * rng.uniform(0.3, 0.9, (150, 201))
    head[145:, :60] = 0.8  # letters in a corner
    for pixels, spacing in (
        (head, None),
        (head, (0.5, 0.8)),
        (rng.random((64, 64)), None),
        (np.zeros((20, 300)), (1.0, 9.0)),
    ):
        scan = Scan(pixels.astype(np.float32), "a", 8, spacing=spacing)
        found = modules.evaluate(
            """async ([rules, height, width, pixels, spacing]) => {
                const { preprocess, window } = await import("./page/preprocess.js");
                const scan = { height, width, pixels: Float32Array.from(pixels), spacing };
                return [[...preprocess(rules, scan)], window(rules, scan)];
            }""",
            [rules.model_dump(), *scan.pixels.shape, scan.pixels.ravel().tolist(), spacing],
        )
        assert np.array(found[0]) == pytest.approx(rules(scan).ravel(), abs=2e-6)
        assert tuple(found[1]) == rules.window(scan)


@pytest.mark.parametrize("size", [128, 96])
def test_an_image_looks_the_same_in_the_browser(modules: Any, tmp_path: Path, size: int) -> None:
    rng = np.random.default_rng(4)
    pixels = np.kron(rng.random((size // 8, size // 8)), np.ones((8, 8))) * rng.random((size, size))
    pixels = (pixels * 255).round().astype(np.uint8) / np.float32(255)
    numbers = describe(shown(pixels[np.newaxis, np.newaxis]))
    parts = (rng.normal(-1, 1, NUMBERS), rng.uniform(0, 2, NUMBERS), rng.normal(0, 0.05, NUMBERS), rng.normal(size=1))
    rule = Appearance(*(part.astype(np.float32) for part in parts))
    rejection = Rejection(
        means=np.zeros((1, 4), np.float32), directions=np.eye(4, 2, dtype=np.float32), rest=np.ones(1, np.float32),
        variances=np.ones(2, np.float32), limit=np.full(1, 0.5, np.float32), reference=np.empty((0, 2), np.float32),
        called=np.empty(0, np.int64), reach=np.array([1e6, 2], np.float32), appearance=rule,
    )  # fmt: skip
    rejection.save(tmp_path / "ood.safetensors")
    got, score = modules.evaluate(
        """async ([size, pixels]) => {
            const { describe } = await import("./page/appearance.js");
            const { Rejection } = await import("./page/rejection.js");
            const rejection = new Rejection(await FILES[0].file.arrayBuffer());
            const input = { size, pixels: Float32Array.from(pixels) };
            return [describe(input), rejection.score(new Float32Array(4), input)];
        }""".replace("FILES", given(tmp_path / "ood.safetensors")),
        [size, pixels.ravel().tolist()],
    )
    np.testing.assert_allclose(got, numbers[0], atol=2e-3)
    wanted = rejection.scores(np.zeros((1, 4), np.float32), pixels[np.newaxis, np.newaxis])[0]
    assert score == pytest.approx(wanted, rel=1e-3)
    assert wanted == pytest.approx(rule.strangeness(numbers)[0] / 2 / 0.5)


def test_what_the_card_has_numbers_for_is_said(modules: Any, tmp_path: Path) -> None:
    """Temperature, vector scaling, prediction sets and rejection, against the formulas written out in NumPy."""
    rng = np.random.default_rng(2)
    spread, mean = rng.uniform(0.5, 2, (12, 3)).astype(np.float32), rng.normal(size=(3, 12)).astype(np.float32)
    directions = np.linalg.qr(spread)[0].astype(np.float32)
    numbers = {
        "means": mean, "directions": directions, "variances": np.array([3, 2, 1], np.float32),
        "rest": np.array([0.5], np.float32), "limit": np.array([4], np.float32), "called": np.arange(3),
    }  # fmt: skip
    save_file(numbers, tmp_path / "ood.safetensors")
    features = rng.normal(size=12).astype(np.float32)
    across = np.eye(12) - directions @ directions.T
    inverse = directions @ np.diag(1 / numbers["variances"]) @ directions.T + across / 0.5
    score = np.sqrt(min((features - one) @ inverse @ (features - one) for one in mean)) / 4
    logits, classes = [2.0, 1.5, -1.0], ["glioma", "meningioma", "no tumour"]
    sets = {
        "sets": [
            {"error": 0.05, "least": dict.fromkeys(classes, 0.0)},
            {"error": 0.1, "least": dict.fromkeys(classes, 0.3)},
        ]
    }
    cards = [
        {"temperature": None}, {"temperature": 2.0}, {"temperature": None, "conformal": sets},
        {"temperature": 0.2, "conformal": sets},
        {"temperature": 1.5, "calibration": {"chosen": {"scale": [1, 2, 0.5], "shift": [0.1, 0, -0.2]}}},
    ]  # fmt: skip
    found = modules.evaluate(
        """async ([cards, classes, logits, features]) => {
            const { answer } = await import("./page/answer.js"), { Rejection } = await import("./page/rejection.js");
            const rejection = new Rejection(await FILES[0].file.arrayBuffer());
            const times = (values, k) => values.map((value) => value * k);
            const far = (k) => Float32Array.from(times(features, k));
            const one = (k) => ({ source: `a#${k}`, logits: times(logits, k), features: far(k) });
            const about = { source: "a", notes: ["seen"], total: 1 };
            const plain = cards.map((card) => answer({ classes, ...card }, null, about, [one(1)]));
            const study = { source: "a", notes: [], total: 9 };
            return [...plain, answer({ classes, ...cards[2] }, rejection, study, [one(1), one(0), one(50), one(2)])];
        }""".replace("FILES", given(tmp_path / "ood.safetensors")),
        [cards, classes, logits, features.tolist()],
    )

    def softmax(*values: float) -> Any:
        powers = np.exp(np.array(values))
        return pytest.approx(powers / powers.sum())

    shares = [[*one["probabilities"].values()] for one in found]
    assert shares[0] == shares[2] == softmax(*logits)
    assert shares[1] == softmax(1, 0.75, -0.5)
    assert shares[3] == softmax(10, 7.5, -5)
    assert shares[4] == softmax(2.1, 3, -0.7)
    assert found[0] == {"source": "a", "label": "glioma", "probabilities": found[0]["probabilities"], "notes": ["seen"]}
    assert found[2]["prediction_set"] == ["glioma", "meningioma"]
    assert (found[2]["verdict"], found[2]["error_rate"]) == ("Uncertain between glioma and meningioma", 0.1)
    assert (found[3]["verdict"], found[3]["prediction_set"]) == ("Glioma likely", ["glioma"])
    assert "ood_score" not in found[3]
    study = found[5]
    assert study["slices"][0]["ood_score"] == pytest.approx(score, rel=1e-5)
    assert [one["source"] for one in study["slices"]] == ["a#1", "a#0", "a#50", "a#2"]
    assert study["ood_score"] == sorted(one["ood_score"] for one in study["slices"])[1], "the smaller of the middle two"
    assert study["slices"][2]["in_distribution"] is False
    assert study["slices"][2]["label"] is None
    assert study["slices"][2]["verdict"].startswith("This does not look like a brain MRI")
    assert [*study["probabilities"].values()] == softmax(*(value * 53 / 4 for value in logits))


# ---- without a browser ----------------------------------------------------------------------------------------------


@pytest.fixture
def fake(tmp_path: Path) -> Runtime:
    folder = tmp_path / "package" / "dist"
    folder.mkdir(parents=True)
    for name in FILES:
        (folder / name).write_bytes(name.encode())
    (folder.parent / "package.json").write_text('{"name": "onnxruntime-web", "version": "1.2.3"}')
    return Runtime(folder, "1.2.3")


def test_a_site_is_whole_and_names_no_other_host(finished_run: Path, fake: Runtime, tmp_path: Path) -> None:
    site = write_site(finished_run / "model", tmp_path / "site", fake)
    files = [path for path in site.folder.rglob("*") if path.is_file()]
    assert site.size == sum(path.stat().st_size for path in files)
    assert "Content-Security-Policy" in (site.folder / "index.html").read_text(encoding="utf-8")
    for path in files:
        if path.suffix in (".js", ".html", ".css"):
            text = path.read_text(encoding="utf-8")
            assert "http://" not in text.replace("http://www.w3.org/", "")
            assert "https://" not in text
            assert "/v1/" not in text.replace("as /v1/explain has it", "").replace("what /v1/explain sent", ""), path
    said = json.loads((site.folder / "model.json").read_text(encoding="utf-8"))
    assert (said["engine"], said["graph"]) == ("onnxruntime-web 1.2.3", site.graph)
    assert (site.folder / site.graph).read_bytes() == (finished_run / "model" / site.graph).read_bytes()
    assert "MIT License" in (site.folder / "runtime" / "LICENSE").read_text(encoding="utf-8")
    with pytest.raises(DataError, match="not empty"):
        write_site(finished_run / "model", site.folder, fake)
    assert not list(tmp_path.glob(".site-*"))


def test_a_damaged_model_makes_no_site(finished_run: Path, fake: Runtime, tmp_path: Path) -> None:
    shutil.copytree(finished_run / "model", tmp_path / "model")
    card = read_card(tmp_path / "model")
    write_card(tmp_path / "model", card.model_copy(update={"files": dict.fromkeys(card.files, "0" * 64)}))
    with pytest.raises(ModelError, match="is not the file"):
        write_site(tmp_path / "model", tmp_path / "site", fake)
    assert not (tmp_path / "site").exists()


def test_the_runtime_is_found_where_npm_puts_it(fake: Runtime, tmp_path: Path) -> None:
    for place in (fake.folder, fake.folder.parent, tmp_path):
        assert find_runtime(place, tmp_path / "cache", fetch=False) == fake
    with pytest.raises(EngineError, match="holds no onnxruntime-web") as caught:
        find_runtime(tmp_path / "cache", tmp_path, fetch=True)
    assert "npm pack" in str(caught.value)


@pytest.mark.skipif(os.name == "nt", reason="npm is played by a shell script")
def test_nothing_is_fetched_unless_asked(fake: Runtime, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as archive:
        archive.add(fake.folder, "package/dist")
    (tmp_path / "a.tgz").write_bytes(packed.getvalue())
    npm = tmp_path / "bin" / "npm"
    npm.parent.mkdir()
    npm.write_text(f'#!/bin/sh\necho "$@" > {tmp_path}/said\nexec cp {tmp_path}/a.tgz .\n')
    npm.chmod(0o755)
    cache, path = tmp_path / "cache", os.environ["PATH"]
    monkeypatch.setenv("PATH", f"{npm.parent}:{path}")
    with pytest.raises(EngineError, match="nothing is fetched without --fetch") as caught:
        find_runtime(None, cache, fetch=False)
    assert "--runtime" in str(caught.value), "the way without a network"
    assert not (tmp_path / "said").exists()
    with pytest.raises(EngineError, match="sha512"):
        find_runtime(None, cache, fetch=True)
    assert not cache.exists()
    assert (tmp_path / "said").read_text().split() == ["pack", "--silent", runtime.PACKAGE]
    monkeypatch.setattr(runtime, "SHA512", base64.b64encode(hashlib.sha512(packed.getvalue()).digest()).decode())
    found = find_runtime(None, cache, fetch=True)
    (tmp_path / "a.tgz").unlink()
    assert find_runtime(None, cache, fetch=False) == found, "what is there is not fetched again"
    with pytest.raises(EngineError, match="cannot be fetched"):
        find_runtime(None, tmp_path / "other", fetch=True)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(EngineError, match="npm, which is not on this machine") as caught:
        find_runtime(None, tmp_path / "other", fetch=True)
    assert "--runtime" in str(caught.value)
    assert sorted(path.name for path in found.folder.iterdir()) == sorted(FILES)


def test_the_command_states_the_size(command: list[str], finished_run: Path, fake: Runtime, tmp_path: Path) -> None:
    words = [
        "export",
        "--web",
        str(tmp_path / "site"),
        "--model",
        str(finished_run / "model"),
        "--runtime",
        str(fake.folder),
    ]
    done = subprocess.run([*command, *words], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert " MB, of which model." in done.stdout
    assert (tmp_path / "site" / "index.html").is_file()
    again = subprocess.run([*command, *words[:-2]], capture_output=True, text=True, check=False)
    assert again.returncode == 2
    assert "not empty" in again.stderr, "said before onnxruntime-web is looked for"
