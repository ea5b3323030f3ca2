"""The audit finds what was planted, and finds nothing where nothing was."""

import csv
import html.parser
import io
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from heads import CLASSES, folder, head, save
from PIL import Image, ImageDraw
from rich.console import Console

for library in ("sklearn", "scipy", "jinja2", "filelock"):
    pytest.importorskip(library)

import neurodense
from neurodense.data import grouping
from neurodense.data.audit.page import write_page
from neurodense.data.audit.result import Audit
from neurodense.data.audit.run import Audited, audit
from neurodense.data.audit.table import print_audit
from neurodense.data.catalogue import scan_folder
from neurodense.data.glance import glance_folder
from neurodense.data.groups import apply_groups, read_groups
from neurodense.data.split import split_records
from neurodense.errors import DataError, MissingExtra
from neurodense.notice import NOTICE

EVIL = '<img src=x onerror="alert(1)">'


def said(result: Audited, about: str) -> dict[str, object]:
    return next(f for f in result.audit.findings if f.about == about).model_dump()


def copy(source: Path, target: Path, turn: Image.Transpose | None = None, gain: float = 1.0) -> Path:
    image = Image.open(source)
    image = image if turn is None else image.transpose(turn)
    return save(np.clip(np.asarray(image) * gain, 0, 255).astype(np.uint8), target, quality=85)


@pytest.fixture(scope="module")
def planted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """DATA, OTHER and tables with one of everything."""
    root = tmp_path_factory.mktemp("planted")
    data = folder(root / "data", 16)
    g, m, n = (data / name for name in CLASSES)
    copy(g / "gl_000.jpg", m / "conflict.jpg", Image.Transpose.ROTATE_90, 0.9)
    (g / "copy.jpg").write_bytes((g / "gl_001.jpg").read_bytes())
    copy(n / "no_002.jpg", n / "mirrored.jpg", Image.Transpose.FLIP_LEFT_RIGHT)
    os.truncate(m / "me_003.jpg", 300)
    save(head(77), g / "really.png").rename(g / "belied.jpg")
    lettered = Image.fromarray(head(78, 256))
    ImageDraw.Draw(lettered).text((4, 4), "NAME 0123", fill=255)
    save(np.asarray(lettered), n / "lettered.png")
    framed = head(79, 128)
    framed[[1, -2]] = framed[:, [1, -2]] = 230
    save(framed, n / "framed.png")
    save(np.zeros((64, 64), np.uint8), m / "empty.png")
    other = root / "other"
    copy(m / "me_005.jpg", other / "x.jpg", Image.Transpose.ROTATE_180)
    save(head(9000), other / "y.jpg")
    with (root / "split.csv").open("w") as handle:
        handle.write("path,part\nnotumor/no_002.jpg,train\nnotumor/mirrored.jpg,test\nglioma/gl_001.jpg,train\n")
        handle.write("glioma/copy.jpg,train\nglioma/gl_004.jpg,train\nglioma/gl_005.jpg,test\n")
    (root / "groups.csv").write_text(
        "path,patient,site\nglioma/gl_004.jpg,p1,A\nglioma/gl_005.jpg,p1,A\nglioma/gl_000.jpg,p2,B\n"
        "meningioma/conflict.jpg,p3,B\n"
    )
    return root


@pytest.fixture(scope="module")
def result(planted: Path) -> Audited:
    return audit(
        planted / "data", against=planted / "other", groups=planted / "groups.csv", split=planted / "split.csv",
        sources="site", out=planted / "out", cache=planted / "cache",
    )  # fmt: skip


def test_a_conflict_is_named_with_its_turn(result: Audited) -> None:
    mixed = result.audit.twins.across_classes
    assert (mixed.clusters, mixed.images) == (1, 2)
    (pair,) = mixed.pairs
    assert {(pair.a, pair.a_label), (pair.b, pair.b_label)} == {
        ("glioma/gl_000.jpg", "glioma"), ("meningioma/conflict.jpg", "meningioma"),
    }  # fmt: skip
    assert "quarter turn" in pair.transform
    assert said(result, "conflicts")["weight"] == "serious"


def test_copies_are_counted_apart_from_twins(result: Audited) -> None:
    twins = result.audit.twins
    assert (twins.copies, twins.copied) == (1, 1)
    assert twins.clusters == 3
    assert twins.images == 6
    kinds = {frozenset((pair.a, pair.b)): pair.kind for pair in twins.within_classes.pairs}
    assert kinds[frozenset(("glioma/copy.jpg", "glioma/gl_001.jpg"))] == "same bytes"
    assert kinds[frozenset(("notumor/mirrored.jpg", "notumor/no_002.jpg"))] == "copy"


def test_parts_of_a_split_that_share_a_slice_or_a_group(result: Audited) -> None:
    across = result.audit.twins.across_parts
    assert across is not None
    assert (across.clusters, across.images) == (1, 2)
    assert set(across.pairs[0].parts or ()) == {"train", "test"}
    assert result.audit.groups.across_parts == ("p1",)
    assert "groups.csv --out RUN" in said(result, "twins across parts")["next"][0]


def test_slices_in_both_folders(result: Audited) -> None:
    both = result.audit.twins.across_data
    assert both is not None
    assert (both.clusters, both.images, both.others) == (1, 1, 1)
    (pair,) = both.pairs
    assert (pair.a, pair.b, pair.b_in, pair.transform) == ("meningioma/me_005.jpg", "x.jpg", "against", "half turn")


def test_odd_files_are_found_and_no_others(result: Audited) -> None:
    found = {oddity.kind: [odd.path for odd in oddity.listed] for oddity in result.audit.oddities}
    assert found == {
        "wrong extension": ["glioma/belied.jpg"],
        "burned-in text": ["notumor/lettered.png"],
        "frame": ["notumor/framed.png"],
        "almost empty": ["meningioma/empty.png"],
    }
    assert list(result.audit.data.unreadable) == ["meningioma/me_003.jpg"]
    kinds = {mixture.of: mixture.kinds for mixture in result.audit.mixtures}
    assert kinds == {"format": 2, "dimensions": 4, "compression": 3}


def test_the_furthest_image_is_first(result: Audited) -> None:
    listed = result.audit.outliers.listed
    assert listed[0].path == "meningioma/empty.png"
    assert [o.score for o in listed] == sorted((o.score for o in listed), reverse=True)


def test_groups_join_patients_and_twins_and_train_takes_them(result: Audited, planted: Path) -> None:
    with (planted / "out" / "groups.csv").open(encoding="utf-8", newline="") as handle:
        group = {row["path"]: row["group"] for row in csv.DictReader(handle)}
    assert len(group) == result.audit.data.images
    assert group["glioma/gl_004.jpg"] == group["glioma/gl_005.jpg"] == "p1"
    assert group["glioma/gl_000.jpg"] == group["meningioma/conflict.jpg"] == "p2"
    assert group["glioma/copy.jpg"] == group["glioma/gl_001.jpg"] == "glioma/copy.jpg"
    assert group["glioma/gl_007.jpg"] == "glioma/gl_007.jpg"
    assert result.audit.groups.joined == 1
    assert result.audit.groups.found == len(set(group.values()))
    catalogue, unlisted = apply_groups(scan_folder(planted / "data"), read_groups(planted / "out" / "groups.csv"))
    assert unlisted == 0
    parts = split_records(catalogue, seed=0).parts
    sides = [{record.group for record in records} for records in parts.values()]
    assert sum(map(len, sides)) == len(set.union(*sides))


def test_what_an_audit_found_serves_the_next_and_train(
    planted: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data, cache = planted / "data", planted / "cache"
    first = audit(data, cache=cache)
    monkeypatch.setattr(grouping, "find_twins", None)
    again = audit(data, cache=cache)
    assert again.audit == first.audit
    catalogue, glances = glance_folder(data, cache)
    found = grouping.find_groups(catalogue, glances, cache)
    assert found.records == again.data.records
    assert len({record.group for record in found.records}) == len(found.records) - 3
    with pytest.raises(TypeError, match="not callable"):
        grouping.find_groups(catalogue, glances, tmp_path)


def test_sources_from_a_column_or_a_table(result: Audited, planted: Path) -> None:
    by = {partition.by: partition for partition in result.audit.confounding.partitions}
    assert sum(map(sum, by["site"].counts)) == result.audit.data.images
    assert set(by["site"].sources) == {"not listed", "A", "B"}
    for sources, match in (("nowhere.csv", "no file"), (planted / "split.csv", "'source' are needed")):
        with pytest.raises(DataError, match=match):
            audit(planted / "data", sources=sources, cache=planted / "cache")


def test_audit_json_is_the_result(result: Audited, planted: Path) -> None:
    text = (planted / "out" / "audit.json").read_text(encoding="utf-8")
    assert Audit.model_validate_json(text) == result.audit
    assert json.loads(text)["schema_version"] == 1
    assert json.loads(text)["notice"] == NOTICE


def test_the_written_schema_is_up_to_date() -> None:
    path = Path(__file__).parents[1] / "docs" / "audit.schema.json"
    assert json.loads(path.read_text(encoding="utf-8")) == Audit.model_json_schema()


class Page(html.parser.HTMLParser):
    """Elements, and that they close."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in {"meta", "img", "link", "br"}:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_the_page_stands_alone(result: Audited, planted: Path) -> None:
    text = (planted / "out" / "audit.html").read_text(encoding="utf-8")
    page = Page(text)
    sources = [a["src"] for tag, a in page.elements if tag == "img"]
    assert len(sources) > 10
    assert all(source is not None and source.startswith("data:image/jpeg;base64,") for source in sources)
    assert all(a.get("alt") for tag, a in page.elements if tag == "img")
    assert not {"script", "link", "iframe"} & {tag for tag, _ in page.elements}
    assert "http" not in text.replace("http-equiv", "")
    assert NOTICE in text
    assert "turned back" in text
    assert len(text) < 3_000_000


def test_names_are_escaped_and_a_lost_image_is_left_out(result: Audited, tmp_path: Path) -> None:
    data = result.audit.data.model_copy(update={"name": EVIL, "unreadable": {"a": EVIL}})
    outliers = result.audit.outliers
    lost = outliers.listed[0].model_copy(update={"path": "nowhere.png"})
    outliers = outliers.model_copy(update={"listed": (lost, *outliers.listed[1:])})
    changed = result.audit.model_copy(update={"data": data, "outliers": outliers})
    write_page(Audited(changed, result.data, result.against, result.look), tmp_path / "a.html")
    text = (tmp_path / "a.html").read_text(encoding="utf-8")
    assert EVIL not in text
    assert "&lt;img src=x" in text
    assert "nowhere.png" not in text


def test_a_set_from_two_sources_is_called_one(tmp_path: Path) -> None:
    mixed = audit(folder(tmp_path / "mixed", 40, styled=True), cache=tmp_path / "cache")
    finding = said(mixed, "confounding")
    assert finding["weight"] == "serious"
    first = mixed.audit.confounding.partitions[0]
    assert first.by == "look"
    assert first.ties[0].label == "notumor"
    assert first.ties[0].share > 0.9
    assert first.ties[0].elsewhere < 0.1
    assert first.p_value <= 0.01
    assert "notumor" in str(finding["found"])
    shortcuts = mixed.audit.shortcuts
    assert shortcuts is not None
    assert shortcuts.recall["notumor"] > 0.9
    assert shortcuts.everything.score > 0.55
    assert {s.family: s.score for s in shortcuts.families}["compression"] > 0.55
    assert shortcuts.names.low <= shortcuts.chance, "the class's own name in a file's name is no shortcut"


def test_a_set_from_one_source_is_clear(tmp_path: Path) -> None:
    plain = audit(folder(tmp_path / "plain", 40), cache=tmp_path / "cache")
    assert said(plain, "confounding")["weight"] == "clear"
    assert said(plain, "shortcuts")["weight"] == "clear"
    shortcuts = plain.audit.shortcuts
    assert shortcuts is not None
    assert shortcuts.everything.low < shortcuts.chance + 0.05
    for about in ("conflicts", "twins", "unreadable", "marks", "files"):
        assert said(plain, about)["weight"] == "clear", about


def run(*arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "neurodense", "audit", *map(str, arguments)],
        capture_output=True, text=True, check=False, timeout=300,
    )  # fmt: skip


def test_the_command_line(result: Audited, planted: Path) -> None:
    tables = ("--groups", planted / "groups.csv", "--split", planted / "split.csv", "--sources", "site")
    places = ("--against", planted / "other", "--cache", planted / "cache", "--out", planted / "out")
    done = run(planted / "data", *tables, *places, "--format", "json")
    assert done.returncode == 1, done.stderr
    assert "me_003.jpg" in done.stderr
    assert Audit.model_validate_json(done.stdout) == result.audit, "the same again, to the last digit"
    wrong = run(planted / "nowhere")
    assert wrong.returncode == 2
    assert "does not exist" in wrong.stderr


def test_the_table_says_it_all(result: Audited) -> None:
    console = Console(width=100, file=io.StringIO(), color_system=None)
    print_audit(result.audit, console)
    text = " ".join(console.file.getvalue().split())
    assert NOTICE in text
    assert all(f.found.replace("`", "") in text for f in result.audit.findings)
    assert all(step.replace("`", "") in text for f in result.audit.findings for step in f.next)
    assert "95% interval" in text


def test_without_the_extra_it_is_named(planted: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sklearn", None)
    with pytest.raises(MissingExtra, match="scikit-learn") as caught:
        neurodense.audit(planted / "data")
    assert "neurodense[audit]" in str(caught.value)
