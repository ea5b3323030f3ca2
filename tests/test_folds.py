"""Folds and left-out sources: whole groups, a partition, near their shares, the same everywhere."""

import random
import unicodedata
from collections import Counter, defaultdict
from dataclasses import replace
from pathlib import Path, PureWindowsPath

import numpy as np
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from neurodense.data import grouping
from neurodense.data.catalogue import Catalogue, Record, in_order
from neurodense.data.folds import fold_records, train_on_all
from neurodense.data.glance import Glances
from neurodense.data.grouping import with_groups
from neurodense.data.groups import GroupTable, read_groups
from neurodense.data.sources import leave_out
from neurodense.data.split import PARTS, VALIDATION_SHARE, alone, leaked, split_records
from neurodense.data.twins import Twins
from neurodense.errors import DataError

SEEDS = st.integers(0, 2**32)
SOURCES = ("one", "two", "three")
thousand = settings(max_examples=1000, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
quick = settings(thousand, max_examples=100)


@st.composite
def tables(draw, most=3):
    """A catalogue of groups of `most` classes at most; sources are in the names, and some groups have several."""
    labels = "abcd"[: draw(st.integers(2, 4))]
    # Drawn in one go: hypothesis is slow at long lists of small draws, and shrinks a seed as well as anything.
    random_ = random.Random(draw(st.integers(0, 2**48)))
    records = []
    for number in range(len(labels) * random_.randint(2, 14)):
        for label in random_.sample(labels, random_.randint(1, min(most, len(labels)))):
            for k in range(random_.randint(1, 9)):
                source = SOURCES[number % 3] if random_.random() < 0.8 else random_.choice(SOURCES)
                records.append(
                    Record(f"{label}/{source}/{number}-{k}.png", label, f"p{number}", f"{len(records):064x}")
                )
    present = {record.label for record in records}
    assume(len(present) > 1)
    return Catalogue(Path("/data"), tuple(sorted(present)), in_order(records), grouped=True)


def attempt(make, *arguments):
    """What `make` gives, or None where it says that there is no way."""
    try:
        return make(*arguments)
    except DataError:
        return None


def check_groups(split):
    """No group on two sides, and every class trains and validates."""
    sides = defaultdict(set)
    for part in PARTS:
        assert split.parts[part] == in_order(split.parts[part])
        for record in split.parts[part]:
            sides[record.group].add(part)
    assert all(len(parts) == 1 for parts in sides.values())


def by_path(records):
    return sorted(record.path for record in records)


class TestAThousandTables:
    @thousand
    @given(tables(), SEEDS)
    def test_a_split_keeps_groups_whole(self, catalogue, seed):
        split = attempt(split_records, catalogue, seed)
        assume(split is not None)
        check_groups(split)
        assert split.holds(catalogue.classes)
        assert by_path(record for part in PARTS for record in split.parts[part]) == by_path(catalogue.records)
        assert leaked(split, catalogue) == 0

    @thousand
    @given(tables(), SEEDS, st.integers(2, 6))
    def test_folds_are_a_partition_and_keep_groups_whole(self, catalogue, seed, count):
        folds = attempt(fold_records, catalogue, count, seed)
        assume(folds is not None)
        assert len(folds) == count
        for split in folds:
            check_groups(split)
            assert split.holds(catalogue.classes)
            assert by_path(record for part in PARTS for record in split.parts[part]) == by_path(catalogue.records)
        assert by_path(record for split in folds for record in split.parts["test"]) == by_path(catalogue.records)

    @thousand
    @given(tables(), SEEDS, st.sampled_from(SOURCES))
    def test_a_left_out_source_shares_no_group_with_training(self, catalogue, seed, source):
        left = attempt(leave_out, catalogue, f"/{source}/", None, seed)
        assume(left is not None)
        split = left.split
        check_groups(split)
        assert split.by == "source"
        assert split.holds(catalogue.classes, ("train", "validation"))
        inside = [record for record in catalogue.records if f"/{source}/" in record.path]
        assert by_path(split.parts["test"]) == by_path(inside), "the test part is the source, all of it and no more"
        groups = {record.group for record in inside}
        shared = [r for r in catalogue.records if r.group in groups and f"/{source}/" not in r.path]
        assert left.shared == len(shared)
        used = sum(map(len, split.parts.values()))
        assert used + left.shared == len(catalogue.records)
        assert left.unknown == 0


@quick
@given(tables(most=1), SEEDS, st.integers(2, 6))
def test_folds_reach_their_share_within_the_largest_group(catalogue, seed, count):
    folds = attempt(fold_records, catalogue, count, seed)
    assume(folds is not None)
    for name, total in catalogue.counts.items():
        sizes = Counter(record.group for record in catalogue.records if record.label == name)
        largest = max(sizes.values())
        tested = [split.counts(catalogue.classes)["test"][name] for split in folds]
        assert max(tested) - min(tested) <= largest
        for split, test in zip(folds, tested, strict=True):
            assert abs(test - total / count) <= largest
            validation = split.counts(catalogue.classes)["validation"][name]
            assert abs(validation - VALIDATION_SHARE * (total - test)) <= largest


def test_folds_of_single_images_differ_by_one_image_a_class():
    catalogue = of(*(f"a/{k}.png" for k in range(53)), *(f"b/{k}.png" for k in range(22)))
    folds = fold_records(catalogue, 5, 0)
    counts = [split.counts("ab")["test"] for split in folds]
    assert sorted(count["a"] for count in counts) == [10, 10, 11, 11, 11]
    assert sorted(count["b"] for count in counts) == [4, 4, 4, 5, 5]
    assert max(sum(count.values()) for count in counts) - min(sum(count.values()) for count in counts) <= 1
    assert all(split.by == "image" for split in folds)
    assert folds[0].target == {"train": 0.8 * 0.875, "validation": 0.8 * 0.125, "test": 0.2}


@quick
@given(tables(), SEEDS, st.randoms(use_true_random=False))
def test_the_same_seed_gives_the_same_folds_in_whatever_order_the_files_come(catalogue, seed, random_):
    shuffled = list(catalogue.records)
    random_.shuffle(shuffled)
    again = replace(catalogue, records=tuple(shuffled))
    assert attempt(fold_records, again, 3, seed) == attempt(fold_records, catalogue, 3, seed)
    assert attempt(leave_out, again, "two", None, seed) == attempt(leave_out, catalogue, "two", None, seed)


def test_another_seed_gives_other_folds():
    catalogue = of(*(f"{label}/{k}.png" for label in "ab" for k in range(30)))
    assert len({fold_records(catalogue, 3, seed)[0].parts["test"] for seed in range(6)}) == 6


def of(*paths, grouped=False):
    """A catalogue of single images, or of one group for the digits of each name."""
    records = [
        Record(path, path.partition("/")[0], path.partition("-")[0] if grouped else path, f"{k:064x}")
        for k, path in enumerate(paths)
    ]
    return Catalogue(Path("/data"), tuple(sorted({r.label for r in records})), in_order(records), grouped=grouped)


NAMES = [f"{label}/Façade {k} Été.PNG" for label in ("Gliome cérébral", "aucune") for k in range(40)]


@pytest.mark.parametrize(
    "elsewhere",
    [
        lambda name: unicodedata.normalize("NFD", name),
        lambda name: str(PureWindowsPath(name)),
        str.lower,
        str.upper,
        lambda name: unicodedata.normalize("NFD", name.upper()),
    ],
    ids=["composed letters", "backslashes", "lower case", "upper case", "letters and case"],
)
def test_another_system_that_writes_names_otherwise_gives_the_same_parts(elsewhere):
    """The records' paths have forward slashes everywhere; groups of a table may have any."""
    here = of(*NAMES)
    label_of = {record.path: elsewhere(record.label) for record in here.records}
    records = [
        Record(elsewhere(r.path), label_of[r.path], elsewhere(r.group), r.sha256) for r in reversed(here.records)
    ]
    there = Catalogue(Path("/d"), tuple(sorted(set(label_of.values()))), in_order(records))
    for seed in range(5):
        one, other = ([split_records(c, seed), *fold_records(c, 4, seed), train_on_all(c, seed)] for c in (here, there))
        for mine, theirs in zip(one, other, strict=True):
            for part in PARTS:
                assert {r.sha256 for r in mine.parts[part]} == {r.sha256 for r in theirs.parts[part]}


def test_a_class_with_too_few_groups_for_the_folds_is_named_with_what_to_do():
    catalogue = of(*(f"a/{k}.png" for k in range(9)), *(f"b/{k}.png" for k in range(4)))
    with pytest.raises(DataError, match="Class 'b' has 4 images; 5 folds need 5, one for each test part") as caught:
        fold_records(catalogue, 5, 0)
    assert caught.value.hint == "--folds 4, or add images of other patients."
    assert len(fold_records(catalogue, 4, 0)) == 4
    assert len(fold_records(catalogue, 2, 0)) == 2
    few = of(*(f"a/{k}.png" for k in range(9)), "b/1.png", "b/2.png", "b/3.png")
    with pytest.raises(DataError, match="2 folds need 4, one for each test part and one each to train and") as caught:
        fold_records(few, 2, 0)
    assert caught.value.hint == "--folds 3, or add images of other patients."
    with pytest.raises(DataError) as caught:
        fold_records(of("a/1.png", "a/2.png", "b/1.png", "b/2.png"), 2, 0)
    assert caught.value.hint == "Add images of other patients."
    with pytest.raises(DataError, match="at least 2"):
        fold_records(catalogue, 1, 0)


def test_two_folds_leave_both_something_to_train_on_whatever_the_sizes():
    records = [
        Record(f"{label}/{number}-{k}.png", label, f"{label}{number}", "0" * 64)
        for label in "ab"
        for number, size in enumerate((100, 1, 1, 1))
        for k in range(size)
    ]
    catalogue = Catalogue(Path("/data"), ("a", "b"), in_order(records), grouped=True)
    for seed in range(20):
        assert all(split.holds("ab") for split in fold_records(catalogue, 2, seed))


def test_groups_that_leave_no_room_for_folds_are_refused():
    # Six groups of two classes each in four folds: two folds test on a single group, which lacks a class.
    held = ["ab", "ab", "ac", "ac", "bc", "bc"]
    records = [Record(f"{label}/{k}.png", label, f"p{k}", "0") for k, two in enumerate(held) for label in two]
    with pytest.raises(DataError, match="leave no room") as caught:
        fold_records(Catalogue(Path("/data"), ("a", "b", "c"), in_order(records), grouped=True), 4, 0)
    assert "a 4, b 4, c 4" in caught.value.message


def test_all_images_train_or_validate_for_a_final_model():
    catalogue = of(*(f"{label}/{k}-{n}.png" for label in "ab" for k in range(10) for n in range(4)), grouped=True)
    split = train_on_all(catalogue, 0)
    check_groups(split)
    assert not split.parts["test"]
    assert split.counts("ab")["validation"] == {"a": 4, "b": 4}
    assert len(split.parts["train"]) == 72


# ---- a source left out ------------------------------------------------------------------------------------------


@pytest.fixture
def sourced(tmp_path):
    """Two classes, eight groups each, from two hospitals; group 0 of each class has images of both."""
    rows, records = ["path,label,group,source,hospital"], []
    for label in "ab":
        for number in range(8):
            for k in range(2):
                source = "North" if number < 3 or (number == 3 and k) else "south"
                path = f"{label}/{source}-{number}-{k}.png"
                rows.append(f"{path},{label},{label}{number},{source},")
                records.append(Record(path, label, f"{label}{number}", f"{len(records):064x}"))
    table = tmp_path / "groups.csv"
    table.write_text("\n".join(rows), encoding="utf-8")
    return Catalogue(Path("/data"), ("a", "b"), in_order(records), grouped=True), read_groups(table)


def test_a_column_and_an_expression_leave_out_the_same(sourced):
    catalogue, table = sourced
    by_column = leave_out(catalogue, "source=North", table, 0)
    assert by_column == leave_out(catalogue, "/North-", None, 0) == leave_out(catalogue, "(?i)/north-", table, 0)
    assert (by_column.shared, by_column.unknown) == (2, 0), "a3-0 and b3-0: their groups have images of the test part"
    assert by_column.split.counts("ab")["test"] == {"a": 7, "b": 7}
    assert sum(len(by_column.split.parts[part]) for part in ("train", "validation")) == 16


def test_images_whose_source_nobody_says_are_not_used(sourced):
    catalogue, table = sourced
    rows = [(n, dict(row)) for n, row in table.rows if row["path"] != "b/south-7-0.png"]
    next(row for _, row in rows if row["path"] == "a/south-7-0.png")["source"] = ""
    left = leave_out(catalogue, "source=North", replace(table, rows=tuple(rows)), 0)
    assert left.unknown == 2
    used = {record.path for part in PARTS for record in left.split.parts[part]}
    assert not used & {"a/south-7-0.png", "b/south-7-0.png"}


@pytest.mark.parametrize(
    ("source", "parts"),
    [
        ("scanner=GE", ["no column 'scanner'", "path, label, group, source, hospital"]),
        ("source=west", ["No image", "'west'", "south (18), North (14)"]),
        ("hospital=west", ["No image", "'west'", "all empty"]),
        ("west", ["found in none of the 32 paths", "a/North-0-0.png", "forward slashes"]),
        ("(west", ["no regular expression", "searched in each image's path"]),
        (".", ["Without '.' (32 images", "a 0, b 0", "Leave out another source"]),
        ("a/south|North", ["a 0, b 4", "Leave out another source"]),
    ],
)
def test_what_cannot_be_left_out(sourced, source, parts):
    catalogue, table = sourced
    with pytest.raises(DataError) as caught:
        leave_out(catalogue, source, table, 0)
    for part in parts:
        assert part in str(caught.value)


def test_a_column_needs_a_table_that_agrees_with_itself(sourced):
    catalogue, table = sourced
    with pytest.raises(DataError, match="names a column, and no table was given") as caught:
        leave_out(catalogue, "source=North", None, 0)
    assert "path,label,group,source" in str(caught.value)
    twice = replace(table, rows=(*table.rows, (99, {**table.rows[0][1], "source": "south"})))
    with pytest.raises(DataError, match=r"line 99: the source of a/North-0-0\.png is 'south' and 'North'"):
        leave_out(catalogue, "source=North", twice, 0)
    with pytest.raises(DataError, match="no column 'source'; it has"):
        GroupTable(Path("t.csv"), {}, {}).column("source")


def test_a_test_part_without_a_class_is_allowed(sourced):
    catalogue, _ = sourced
    left = leave_out(catalogue, "^a/North", None, 0)
    assert left.split.counts("ab")["test"] == {"a": 7, "b": 0}


# ---- groups that nobody gave ----------------------------------------------------------------------------------------


def test_a_cluster_of_twins_is_a_group_with_the_same_name_everywhere():
    catalogue = of("a/B.png", "a/a.png", "a/c.png", "b/1.png", "b/2.png")
    grouped = with_groups(catalogue, np.array([0, 1, 0, 0, 4]))
    assert [record.group for record in grouped.records] == ["a/B.png", "a/a.png", "a/B.png", "a/B.png", "b/2.png"]
    assert grouped.grouped
    assert [record.path for record in grouped.records] == [record.path for record in catalogue.records]
    # Another case changes the order of the files and the numbers, not which image names the group.
    lower = of("a/b.png", "a/a.png", "a/c.png", "b/1.png", "b/2.png")
    grouped = with_groups(lower, np.array([0, 1, 1, 1, 4]))
    assert [record.path for record in grouped.records][:2] == ["a/a.png", "a/b.png"]
    assert [record.group for record in grouped.records] == ["a/a.png", "a/b.png", "a/b.png", "a/b.png", "b/2.png"]
    # A given name goes before a path, and among given ones the same rule holds.
    given = replace(lower, records=tuple(
        replace(record, group=group)
        for record, group in zip(lower.records, ["a/a.png", "P2", "a/c.png", "p1", "b/2.png"], strict=True)
    ))  # fmt: skip
    grouped = with_groups(given, np.array([0, 1, 0, 1, 1]))
    assert [record.group for record in grouped.records] == ["a/a.png", "p1", "a/a.png", "p1", "p1"]


def test_what_was_found_is_kept_until_an_image_changes(tmp_path, monkeypatch):
    catalogue, searches = of("a/1.png", "a/2.png", "b/1.png"), []

    def search(thumbs, advance):
        searches.append(len(thumbs))
        return Twins((), np.array([0, 0, 2]), (), ())

    monkeypatch.setattr(grouping, "find_twins", search)
    glances = Glances(np.zeros(3), np.zeros((3, 2, 64, 64), np.uint8))
    first = grouping.find_groups(catalogue, glances, tmp_path)
    assert [record.group for record in first.records] == ["a/1.png", "a/1.png", "b/1.png"]
    assert grouping.find_groups(catalogue, glances, tmp_path) == first
    assert searches == [3]
    changed = replace(catalogue, records=(replace(catalogue.records[0], sha256="f" * 64), *catalogue.records[1:]))
    grouping.find_groups(changed, glances, tmp_path)
    for path in (tmp_path / "twins").iterdir():
        path.write_text("{")
    assert grouping.find_groups(catalogue, glances, tmp_path) == first, "a damaged file is searched for anew"
    assert searches == [3, 3, 3]


# ---- by image, and what it leaks ---------------------------------------------------------------------------------


def test_a_split_by_image_is_counted_for_what_it_leaks():
    catalogue = of(*(f"{label}/{k}-{n}.png" for label in "ab" for k in range(10) for n in range(5)), grouped=True)
    split = split_records(alone(catalogue), 0)
    assert split.by == "image"
    assert not split.grouped
    trained = {path.partition("-")[0] for path in by_path(split.parts["train"])}
    count = sum(path.partition("-")[0] in trained for path in by_path(split.parts["test"]))
    assert leaked(split, catalogue) == count > 0
    assert leaked(split_records(catalogue, 0), catalogue) == 0
