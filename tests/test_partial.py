"""Folders whose classes are partly known: what is refused, what belongs together, and which part it is in."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from neurodense.data.catalogue import Catalogue, Record, class_folders, in_order
from neurodense.data.groups import GroupTable
from neurodense.data.partial import Partial, file_of, options_of, parse_partial, partial_folders
from neurodense.data.partial_parts import PartialImages, draw_parts, groups_to_test, not_given, place, tie
from neurodense.data.split import PARTS, Split, alone, split_records
from neurodense.data.split_table import read_part, read_split, write_split
from neurodense.errors import DataError
from neurodense.training.plan import Plan

CLASSES = ("a", "b", "c")


def data_of(groups: int = 12, each: int = 2) -> Catalogue:
    """`groups` groups of `each` images of every class."""
    records = [
        Record(f"{name}/{g}-{k}.png", name, f"{name}{g}", f"{name}{g}{k}")
        for name in CLASSES
        for g in range(groups)
        for k in range(each)
    ]
    return Catalogue(Path("data"), CLASSES, in_order(records), grouped=True)


def folder(name: str = "x", *classes: str) -> Partial:
    return Partial(name, f"/far/{name}", classes or ("a", "b"))


def images_of(one: Partial, count: int) -> list[Record]:
    return [
        Record(f"{one.prefix}{k:02d}.png", one.label, f"{one.prefix}{k:02d}.png", f"{one.name}{k}")
        for k in range(count)
    ]


def tied(
    catalogue: Catalogue,
    partial: list[Partial],
    records: list[Record],
    twins: dict[str, str],
    table: GroupTable | None = None,
) -> PartialImages:
    """`twins`: path -> name of a cluster; the others stand alone."""
    clusters = [twins.get(record.path, record.path) for record in (*catalogue.records, *records)]
    return tie(catalogue, partial, records, clusters, table)


def placed(split: Split, catalogue: Catalogue, partial: list[Partial], images: PartialImages, seed: int = 0) -> Split:
    (tested,) = groups_to_test(images, seed, None)
    return place(split, catalogue, images, partial, draw_parts(images, tested, f"{seed}:"))


def part_of(split: Split) -> dict[str, str]:
    return {record.path: part for part in PARTS for record in (*split.parts[part], *split.partial[part])}


# ---- what is asked for --------------------------------------------------------------------------------------------


def test_the_option_is_taken_apart_at_its_last_sign() -> None:
    assert parse_partial(["f=a,b", "odd=name=c , b"]) == {"f": ["a", "b"], "odd=name": ["c", "b"]}
    for texts, said in ((["f"], "does not say which classes"), (["f=a", "f=b"], "given twice")):
        with pytest.raises(DataError, match=said):
            parse_partial(texts)


@pytest.mark.parametrize(
    ("folders", "parts"),
    [
        ({"gone": ["a"]}, ["gone does not exist"]),
        ({"file": ["a"]}, ["file is not a folder"]),
        ({"x": ["a", "bb"]}, ["'bb'", "no class of", "'a', 'b', 'c'", "Did you mean b?"]),
        ({"x": ["a", "b", "c"]}, ["allows every class", "at most 2 of a, b, c"]),
        ({"x": []}, ["allows no class"]),
        ({"data/a": ["a"]}, ["one within the other", "outside of DATA"]),
        ({".": ["a"]}, ["one within the other"]),
        ({"x": ["a"], "x/deep": ["b"]}, ["one within the other"]),
        ({"x": ["a"], "far/x": ["b"]}, ["have one name", "Rename one"]),
    ],
)
def test_what_cannot_be_is_said(folders: dict[str, list[str]], parts: list[str], tmp_path: Path) -> None:
    for name in ("data/a", "x/deep", "far/x"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError) as caught:
        partial_folders({tmp_path / name: names for name, names in folders.items()}, CLASSES, tmp_path / "data")
    for part in parts:
        assert part in str(caught.value)


def test_a_folder_keeps_its_name_and_the_order_of_the_model(tmp_path: Path) -> None:
    (tmp_path / "DATA").mkdir()
    (one,) = partial_folders({str(tmp_path / "DATA"): ["c", "a", "c"]}, CLASSES, tmp_path / "elsewhere")
    assert (one.name, one.folder, one.classes, one.label) == ("DATA", str(tmp_path / "DATA"), ("a", "c"), "a|c")
    assert options_of([one, folder("two words", "b")]) == " --partial DATA=a,c --partial 'two words=b'"
    record = Record("partial:DATA/deep/1.png", "a|c", "g", "")
    assert file_of(record, Path("data"), [one]) == tmp_path / "DATA" / "deep" / "1.png"
    assert file_of(Record("a/1.png", "a", "g", ""), Path("data"), [one]) == Path("data/a/1.png")


def test_a_class_may_not_be_called_as_such_a_folder(tmp_path: Path) -> None:
    for name in ("partial:x", "b"):
        (tmp_path / name).mkdir()
    with pytest.raises(DataError, match="Rename it"):
        class_folders(tmp_path)


# ---- what belongs together ----------------------------------------------------------------------------------------


def test_a_twin_follows_data_and_the_others_are_drawn_with_its_shares() -> None:
    catalogue, one = data_of(), folder()
    split = split_records(catalogue, 0)
    of = {part: [r.path for r in split.parts[part]] for part in PARTS}
    records = images_of(one, 40)
    twins = {records[0].path: "T", of["test"][0]: "T", records[1].path: "V", of["validation"][0]: "V"}
    twins |= {records[2].path: "R", of["train"][0]: "R"}
    twins |= {records[3].path: "both", of["train"][1]: "both", of["test"][3]: "both"}
    images = tied(catalogue, [one], records, twins)
    assert set(images.tied) == {record.path for record in records[:4]}
    after = placed(split, catalogue, [one], images)
    assert after.parts == split.parts, "DATA's parts are as they were"
    parts = part_of(after)
    assert [parts.get(record.path) for record in records[:4]] == ["test", "validation", "train", None]
    free = [parts[record.path] for record in records[4:]]
    assert {part: free.count(part) for part in PARTS} == {"train": 25, "validation": 4, "test": 7}  # of 36: 70/10/20
    group_of = {r.path: r.group for part in PARTS for r in (*after.parts[part], *after.partial[part])}
    assert group_of[records[0].path] == group_of[of["test"][0]], "the table says what it follows"


def test_what_is_tied_to_images_of_no_part_is_not_used() -> None:
    catalogue, one = data_of(), folder()
    split = split_records(catalogue, 0)
    lost = split.parts["train"][0]
    split = Split({**split.parts, "train": tuple(r for r in split.parts["train"] if r.group != lost.group)}, "file")
    records = images_of(one, 9)
    images = tied(catalogue, [one], records, {records[0].path: "T", lost.path: "T"})
    assert records[0].path not in part_of(placed(split, catalogue, [one], images))


def test_a_table_keeps_patients_together_across_folders() -> None:
    catalogue, one = data_of(), folder()
    split = split_records(catalogue, 0)
    records = images_of(one, 30)
    tested = split.parts["test"][0].group
    groups = {record.path: "patient 7" for record in records[:6]} | {record.path: tested for record in records[6:9]}
    table = GroupTable(Path("t.csv"), groups, {})
    images = tied(catalogue, [one], records, {records[9].path: "T", records[0].path: "T"}, table)
    for seed in range(5):
        parts = part_of(placed(split, catalogue, [one], images, seed))
        assert len({parts[record.path] for record in (*records[:6], records[9])}) == 1
        assert {parts[record.path] for record in records[6:9]} == {"test"}


def test_a_twin_of_another_class_is_counted() -> None:
    catalogue, one = data_of(), folder()
    records = images_of(one, 5)
    twins = {records[0].path: "T", "c/0-0.png": "T", records[1].path: "U", "a/0-0.png": "U", "c/1-0.png": "U"}
    images = tied(catalogue, [one], records, twins)
    assert [record.path for record in images.contradicted] == [records[0].path]


def test_each_folder_has_something_in_each_part_and_one_of_a_single_group_trains() -> None:
    catalogue = data_of()
    split = split_records(catalogue, 0)
    partial = [folder("x"), folder("y"), folder("tiny", "c")]
    records = [*images_of(partial[0], 30), *images_of(partial[1], 10), *images_of(partial[2], 1)]
    after = placed(split, catalogue, partial, tied(catalogue, partial, records, {}))
    for one in partial[:2]:
        assert all(one.of(after.partial[part]) for part in PARTS)
    assert [len(partial[2].of(after.partial[part])) for part in PARTS] == [1, 0, 0]


def test_a_folder_of_which_nothing_trains_is_an_error() -> None:
    catalogue, one = data_of(), folder()
    split = split_records(catalogue, 0)
    records = images_of(one, 3)
    twins = {record.path: "T" for record in records} | {split.parts["test"][0].path: "T"}
    with pytest.raises(DataError, match="Nothing of /far/x is left to train on: of its 3 images 0 validate and 3 test"):
        placed(split, catalogue, [one], tied(catalogue, [one], records, twins))


@given(
    st.lists(st.integers(0, 60), min_size=72, max_size=72),
    st.lists(st.integers(0, 20), min_size=20, max_size=20),
    st.integers(0, 3),
    st.sampled_from(["group", "image"]),
)
@settings(max_examples=60, deadline=None)
def test_nothing_that_trains_has_a_twin_that_validates_or_tests(
    of_data: list[int], of_folders: list[int], seed: int, by: str
) -> None:
    """Clusters at random over DATA and two folders: small ones, and many images that stand alone."""
    catalogue, partial = data_of(), [folder("x"), folder("y", "c")]
    split = split_records(catalogue if by == "group" else alone(catalogue), seed)
    records = [*images_of(partial[0], 12), *images_of(partial[1], 8)]
    numbers = [n if n < 12 else None for n in (*of_data, *of_folders)]
    everything = [*catalogue.records, *records]
    twins = {r.path: f"cluster {n}" for r, n in zip(everything, numbers, strict=True) if n is not None}
    try:
        after = placed(split, catalogue, partial, tied(catalogue, partial, records, twins), seed)
    except DataError as error:
        assert "is left to train on" in error.message  # noqa: PT017  (every other outcome is checked below)
        return
    assert after.parts == split.parts
    parts = part_of(after)
    for record in records:
        mine = parts.get(record.path)
        others = {parts[path] for path, cluster in twins.items() if path in parts and cluster == twins.get(record.path)}
        assert mine is None or others <= {mine}
    used = [record.path for part in PARTS for record in after.partial[part]]
    assert len(used) == len(set(used))
    assert {record.path for record in records if record.path not in twins} <= set(used), "what stands alone is used"


def test_folds_test_each_image_once_and_the_final_model_none() -> None:
    catalogue, one = data_of(), folder()
    records = images_of(one, 23)
    followed = catalogue.records[0]
    images = tied(catalogue, [one], records, {records[0].path: "T", followed.path: "T"})
    from neurodense.screen import Screen

    splits = Plan(folds=3, final=True).parts(catalogue, None, 0, Screen(), [one], images)
    assert splits.keys() == {"fold-1", "fold-2", "fold-3", "final"}
    tested = [r.path for split in splits.values() for r in split.partial["test"]]
    assert sorted(tested) == [record.path for record in records]
    assert not splits["final"].partial["test"]
    for split in splits.values():
        parts = part_of(split)
        assert parts[records[0].path] == parts[followed.path]
        assert len(split.partial["train"]) > len(split.partial["validation"]) > 0


# ---- split.csv ----------------------------------------------------------------------------------------------------


def test_a_split_that_is_given_back_is_the_same(tmp_path: Path) -> None:
    catalogue, partial = data_of(), [folder("x"), folder("y", "c")]
    split = split_records(catalogue, 0)
    records = [*images_of(partial[0], 30), *images_of(partial[1], 20)]
    twins = {records[0].path: "T", split.parts["test"][0].path: "T", records[1].path: "B"}
    twins |= {split.parts["train"][0].path: "B", split.parts["test"][3].path: "B"}
    images = tied(catalogue, partial, records, twins)
    after = placed(split, catalogue, partial, images)
    path = tmp_path / "split.csv"
    write_split(after, path)
    lines = path.read_text(encoding="utf-8").splitlines()
    assert "partial:x/02.png,a|b,partial:x/02.png," in "\n".join(lines)
    assert [line.startswith("partial:") for line in lines[1:]] == [False] * 72 + [True] * 49

    for known in (catalogue, alone(catalogue)):  # with a table of groups, and with the split's own column
        again = read_split(path, known, seed=9, partial=images.records)
        again = placed(again, known, partial, tied(known, partial, records, twins), seed=9)
        assert (again.parts, again.partial) == (after.parts, after.partial)
        write_split(again, tmp_path / "again.csv")
        assert (tmp_path / "again.csv").read_bytes() == path.read_bytes()

    pytest.importorskip("torch")
    from neurodense.training.prepare import recorded_split

    class Sheet:
        split_by = "group"

    resumed = recorded_split(tmp_path, Sheet())  # type: ignore[arg-type]
    assert (resumed.parts, resumed.partial) == (after.parts, after.partial), "in this order too"


def test_readers_of_data_pass_over_other_folders(tmp_path: Path) -> None:
    catalogue, one = data_of(), folder()
    split = split_records(catalogue, 0)
    after = placed(split, catalogue, [one], tied(catalogue, [one], images_of(one, 30), {}))
    write_split(after, tmp_path / "split.csv")
    assert read_split(tmp_path / "split.csv", catalogue, 0).parts == split.parts
    assert [r.path for r in read_part(tmp_path / "split.csv", tmp_path, "test")] == [
        r.path for r in split.parts["test"]
    ]
    assert not_given(tmp_path / "split.csv", []) == ["x"]
    assert not_given(tmp_path / "split.csv", [one]) == []
    assert after.counts(CLASSES) == split.counts(CLASSES)
    assert after.grouped


def test_a_folder_that_the_table_does_not_list_is_drawn(tmp_path: Path) -> None:
    catalogue, one, other = data_of(), folder("x"), folder("y")
    split = split_records(catalogue, 0)
    records = [*images_of(one, 10), *images_of(other, 10)]
    images = tied(catalogue, [one, other], records, {records[2].path: "T", records[12].path: "T"})
    write_split(split, tmp_path / "split.csv")
    with (tmp_path / "split.csv").open("a", encoding="utf-8") as handle:
        handle.writelines(
            f"{record.path},,,{part},\n" for record, part in zip(records, ["train", "test", "test"], strict=False)
        )
    read = read_split(tmp_path / "split.csv", catalogue, 0, partial=images.records)
    for seed in range(4):
        parts = part_of(placed(read, catalogue, [one, other], images, seed))
        assert [parts.get(record.path) for record in records[:10]] == ["train", "test", "test", *[None] * 7]
        assert all(record.path in parts for record in records[10:])
        assert parts[records[12].path] == "test", "its twin is listed there"


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ("partial:x/00.png,a|b,,train,", r"partial:x/00.png is listed in train, and a twin of it .* is in test"),
        ("partial:x/77.png,a|b,,train,", "no readable image"),
        ("partial:x/01.png,b|c,,train,", "is labelled 'b|c'"),
        ("partial:x/01.png,a|b,,train,beef", "is not the file it was"),
        ("partial:x/01.png,a|b,,training,", "part is 'training'"),
    ],
)
def test_a_table_that_cannot_be_is_refused(row: str, said: str, tmp_path: Path) -> None:
    catalogue, one = data_of(), folder()
    split = split_records(catalogue, 0)
    records = images_of(one, 5)
    images = tied(catalogue, [one], records, {records[0].path: "T", split.parts["test"][0].path: "T"})
    write_split(split, tmp_path / "split.csv")
    with (tmp_path / "split.csv").open("a", encoding="utf-8") as handle:
        handle.write(row + "\n")
    with pytest.raises(DataError, match=said):
        placed(read_split(tmp_path / "split.csv", catalogue, 0, partial=images.records), catalogue, [one], images)


def test_the_draw_does_not_depend_on_where_the_folder_lies_or_the_order_of_files() -> None:
    catalogue = data_of()
    split = split_records(catalogue, 0)
    here, there = Partial("x", "/here/x", ("a", "b")), Partial("x", "/there/x", ("a", "b"))
    records = images_of(here, 25)
    one = placed(split, catalogue, [here], tied(catalogue, [here], records, {}))
    other = placed(split, catalogue, [there], tied(catalogue, [there], records[::-1], {}))
    assert one.partial == other.partial
    assert one.partial != placed(split, catalogue, [here], tied(catalogue, [here], records, {}), seed=1).partial
