"""The page in a real browser: files of each kind, answers, the heat map, exports, errors, accessibility."""

import csv
import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("fastapi", reason="the extra `serve` is not installed")
pytest.importorskip("playwright.sync_api", reason="playwright is not installed")

from conftest import head_slices, not_there, write_dicom_slice, write_volume

from benchmarks.server import Server

AXE = Path(os.environ.get("NEURODENSE_AXE", "axe.min.js"))
WAIT_MS = 60_000


@pytest.fixture(scope="module")
def server(finished_run: Path) -> Iterator[Server]:
    with Server(finished_run / "model", "--threads", "1", "--max-upload", "8") as started:
        yield started


@pytest.fixture
def page(browser: Any, server: Server) -> Iterator[Any]:
    """The page; a script error or a request to another host fails the test."""
    yield from opened(browser, server)


def opened(browser: Any, server: Server, **options: Any) -> Iterator[Any]:
    context = browser.new_context(viewport={"width": 1280, "height": 900}, **options)
    page = context.new_page()
    errors: list[str] = []
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.on("request", lambda asked: asked.url.startswith((server.url("/"), "blob:")) or errors.append(asked.url))
    page.goto(server.url("/"))
    page.get_by_text("Model ").first.wait_for()
    yield page
    context.close()
    assert not errors


@pytest.fixture(scope="module")
def study(phantoms: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a picture of two kinds, a volume, a series, a file that is no image, and a broken picture."""
    folder = tmp_path_factory.mktemp("drop") / "study"
    (folder / "t1").mkdir(parents=True)
    shutil.copy(sorted(phantoms.rglob("*.png"))[0], folder / "a.png")
    (folder / "broken.png").write_bytes(b"no picture")
    (folder / "read me.txt").write_text("hello")
    write_volume(folder / "head.nii", head_slices())
    for number, pixels in enumerate(head_slices(6)):
        write_dicom_slice(folder / "t1" / f"IM{number}", pixels, 3.0 * number, number=number + 1)
    return folder


def add(page: Any, folder: Path, count: int) -> None:
    page.set_input_files("#folder", folder)
    page.locator(".card.done").nth(count - 1).wait_for(timeout=WAIT_MS)


def open_card(page: Any, name: str) -> None:
    page.locator(".card", has_text=name).locator(".open").click()
    page.locator("#controls").wait_for(timeout=WAIT_MS)
    page.locator("#stage-state").wait_for(state="hidden")


def mean_colour(page: Any) -> list[float]:
    return page.evaluate(
        """() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(() => {
            const canvas = document.getElementById("canvas"), sum = [0, 0, 0];
            const all = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data;
            for (let k = 0; k < all.length; k += 1) if (k % 4 < 3) sum[k % 4] += all[k];
            done(sum.map((one) => (4 * one) / all.length));
        })))"""
    )


def test_a_folder_of_every_kind(page: Any, study: Path) -> None:
    from playwright.sync_api import expect

    assert page.get_by_text("not a medical device").first.is_visible()
    assert page.locator("#bar").is_hidden(), "the empty state has no tools"
    add(page, study, 4)
    said = "4 scans · 1 could not be read · 1 other files passed over"
    expect(page.locator("#state")).to_have_text(said)  # which waits: it is drawn in the next frame
    names = page.locator(".card .name").all_inner_texts()
    assert sorted(names) == ["study/a.png", "study/broken.png", "study/head.nii", "study/t1"]
    assert page.locator(".card .thumb canvas").count() == 3
    assert "probable class" in page.locator(".card", has_text="a.png").locator(".verdict").inner_text()
    assert "whatever its name says" in page.locator(".card.bad").inner_text()
    assert "of 6 slices" in page.locator(".card", has_text="study/t1").locator(".detail").inner_text()


def test_the_viewer(page: Any, study: Path) -> None:
    add(page, study, 4)
    open_card(page, "head.nii")
    shares = page.locator("#probabilities tbody tr").count()
    assert shares == 4
    assert page.get_by_text("synthetic").first.is_visible(), "what must be said of the model is said"
    first = page.locator("#slice-out").inner_text()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("ArrowLeft")
    mean_colour(page)
    assert page.locator("#slice-out").inner_text() != first
    page.select_option("#heat", "")
    red, green, blue = mean_colour(page)
    assert red == pytest.approx(green, abs=0.01)
    assert red == pytest.approx(blue, abs=0.01)
    heated = []
    for name in page.locator("#heat option").evaluate_all("all => all.map((one) => one.value).slice(1)"):
        page.select_option("#heat", name)
        page.locator("#opacity").fill("100")
        full = mean_colour(page)
        page.locator("#opacity").fill("0")
        assert mean_colour(page) == pytest.approx([red, green, blue], abs=0.01)
        heated.append(max(abs(a - b) for a, b in zip(full, (red, green, blue), strict=True)))
    assert max(heated) > 0.1, "some class is seen somewhere"  # the model is sure of little, and its heat is faint
    page.locator("#level").fill("0")
    assert mean_colour(page)[0] > red + 20, "a lower level is brighter"
    page.locator("#reset").click()
    page.keyboard.press("Escape")
    assert page.locator("#viewer").is_hidden()


def test_filter_order_and_export(page: Any, study: Path, tmp_path: Path) -> None:
    add(page, study, 4)
    from playwright.sync_api import expect  # which waits: the list is drawn anew in the next frame

    page.fill("#find", "study/t")
    expect(page.locator(".card")).to_have_count(1)
    page.fill("#find", "nothing")
    expect(page.get_by_text("Nothing here fits")).to_be_visible()
    page.fill("#find", "")
    page.select_option("#show", "unreadable")
    expect(page.locator(".card .name")).to_have_text(["study/broken.png"])
    page.select_option("#show", "")
    page.select_option("#order", "name")
    expect(page.locator(".card .name")).not_to_have_count(1)
    names = page.locator(".card .name").all_inner_texts()
    expect(page.locator(".card .name")).to_have_text(sorted(names))
    for name in ("a.png", "head.nii"):
        page.locator(".card", has_text=name).locator("input").check()
    with page.expect_download() as waiting:
        page.click("#csv")
    waiting.value.save_as(tmp_path / "out.csv")
    rows = list(csv.DictReader((tmp_path / "out.csv").read_text(encoding="utf-8").splitlines()))
    assert [row["source"] for row in rows] == ["study/a.png", "study/head.nii"]
    assert sum(float(value) for name, value in rows[0].items() if name.startswith("p:")) == pytest.approx(1)
    with page.expect_download() as waiting:
        page.click("#json")
    waiting.value.save_as(tmp_path / "out.json")
    said = json.loads((tmp_path / "out.json").read_text(encoding="utf-8"))
    assert "not a medical device" in said["notice"]
    assert [one["source"] for one in said["predictions"]] == ["study/a.png", "study/head.nii"]
    assert len(said["predictions"][1]["slices"]) == 8
    page.evaluate("() => { window.print = () => {}; }")
    page.click("#print")
    page.emulate_media(media="print")
    assert page.locator("#report article").count() == 2
    assert page.locator("#report .stop").is_visible()
    assert page.locator("header").is_hidden()


def test_keys_alone_are_enough(page: Any, study: Path) -> None:
    add(page, study, 4)
    page.locator("#drop").click()
    page.keyboard.press("ArrowDown")
    page.keyboard.press("ArrowDown")
    focused = page.evaluate("() => document.activeElement.closest('.card')?.querySelector('.name').textContent")
    assert focused == page.locator(".card .name").all_inner_texts()[1]
    page.keyboard.press("x")
    assert page.locator("#chosen").inner_text() == "1 chosen"
    page.keyboard.press("Enter")
    page.locator("#viewer").wait_for()
    page.keyboard.press("Escape")
    assert page.evaluate("() => document.activeElement.className") == "open"
    page.keyboard.press("/")
    assert page.evaluate("() => document.activeElement.id") == "find"


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_nothing_that_axe_finds(browser: Any, server: Server, study: Path, scheme: str) -> None:
    if not AXE.is_file():
        not_there(f"axe-core is not at {AXE} (NEURODENSE_AXE)")
    for page in opened(browser, server, color_scheme=scheme):
        page.evaluate(AXE.read_text(encoding="utf-8"))
        found = page.evaluate("() => axe.run()")["violations"]
        add(page, study, 4)
        open_card(page, "study/t1")
        found += page.evaluate("() => axe.run()")["violations"]
        assert [(one["id"], one["impact"], one["nodes"][0]["html"]) for one in found] == []


def test_a_server_that_goes_and_comes_back(browser: Any, finished_run: Path, study: Path) -> None:
    with Server(finished_run / "model", "--threads", "1") as server:
        for page in opened(browser, server):
            server.stop()
            page.set_input_files("#files", study / "a.png")
            page.get_by_text("The server does not answer").wait_for(timeout=WAIT_MS)
            with Server(finished_run / "model", "--threads", "1", "--port", str(server.port)):
                page.locator(".card.done").wait_for(timeout=WAIT_MS)
                page.locator("#gone").wait_for(state="hidden")
                assert "probable class" in page.locator(".card").inner_text()


def test_a_token_is_asked_for_once(browser: Any, finished_run: Path, study: Path, tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text("correct-horse-battery-staple\n")
    with Server(finished_run / "model", "--threads", "1", "--token-file", str(token)) as server:
        page = browser.new_page()
        page.goto(server.url("/"))
        page.fill("#token", "wrong")
        page.keyboard.press("Enter")
        page.locator("#token").wait_for()
        page.fill("#token", token.read_text().strip())
        page.keyboard.press("Enter")
        page.get_by_text("Model ").first.wait_for()
        add(page, study, 4)
        page.close()


def test_verdicts_of_models_that_abstain(page: Any) -> None:
    """What a calibrated model adds to its predictions is said in words, and its other members are listed."""
    shares = {"glioma": 0.5, "meningioma": 0.4, "notumor": 0.1}
    said = page.evaluate(
        """async (shares) => {
            const { verdict, kind, others } = await import("/page/words.js");
            const of = (more) => ({ source: "a", label: null, probabilities: shares, ...more });
            const all = [
                of({ prediction_set: ["glioma"], label: "glioma" }), of({ prediction_set: ["glioma", "meningioma"] }),
                of({ prediction_set: [], in_distribution: true }), of({ in_distribution: false, ood_score: 1.23456 }),
                of({ verdict: "As the server says" }), { source: "a", error: { type: "ScanError", message: "x" } },
            ];
            return [all.map(verdict), all.map(kind), others(all[3]), others(all[1])];
        }""",
        shares,
    )
    assert said[0] == [
        "Glioma likely", "Uncertain between glioma and meningioma", "No class fits",
        "This does not look like a brain MRI", "As the server says", "Could not be read",
    ]  # fmt: skip
    assert said[1] == ["glioma", "uncertain", "uncertain", "unlike a brain MRI", "uncertain", "unreadable"]
    assert said[2] == [["In distribution", "no"], ["Ood score", "1.235"]]
    assert said[3] == [["Prediction set", "glioma, meningioma"]]
