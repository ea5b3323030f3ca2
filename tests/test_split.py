"""The split: whole groups, every class in every part, near its shares, the same everywhere; and its table."""

import csv
import random
from collections import Counter, defaultdict
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from neurodense.data.catalogue import Catalogue, Record, in_order
from neurodense.data.split import PARTS, VALIDATION_SHARE, Split, split_records
from neurodense.data.split_table import read_split, write_split
from neurodense.errors import DataError

SEEDS = st.integers(0, 2**32)
quick = settings(max_examples=60, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])


def catalogue_of(groups, grouped=True):
    """A catalogue of `groups`: for each group its number of images a class."""
    records = []
    for number, labels in enumerate(groups):
        for label, count in labels.items():
            for path in (f"{label}/{number}-{k}.png" for k in range(count)):
                records.append(Record(path, label, f"p{number}" if grouped else path, f"{len(records):064x}"))
    classes = tuple(sorted({record.label for record in records}))
    return Catalogue(Path("/data"), classes, in_order(records), grouped=grouped)


def singles(**counts):
    """A catalogue in which every image stands alone."""
    return catalogue_of([{label: count} for label, count in counts.items()], grouped=False)


@st.composite
def one_class_each(draw, size=8):
    """Groups of one class, at least three a class."""
    labels = "abcd"[: draw(st.integers(2, 4))]
    sizes = st.lists(st.integers(1, size), min_size=3, max_size=25)
    return catalogue_of([{label: count} for label in labels for count in draw(sizes)])


@st.composite
def several_classes_each(draw):
    """Groups that may hold several classes, each class in at least three groups."""
    labels = "abcd"[: draw(st.integers(2, 4))]
    held = st.dictionaries(st.sampled_from(labels), st.integers(1, 9), min_size=1)
    groups = draw(st.lists(held, min_size=3, max_size=9))
    groups += [{label: 1} for label in labels for _ in range(max(0, 3 - sum(label in group for group in groups)))]
    return catalogue_of(groups)


def check_whole(split, catalogue):
    """Every record is in exactly one part, no group in two, every class in each."""
    listed = [record for part in PARTS for record in split.parts[part]]
    assert sorted(listed, key=lambda record: record.path) == sorted(catalogue.records, key=lambda record: record.path)
    parts_of = defaultdict(set)
    for part in PARTS:
        assert split.parts[part] == in_order(split.parts[part])
        assert {record.label for record in split.parts[part]} == set(catalogue.classes)
        for record in split.parts[part]:
            parts_of[record.group].add(part)
    assert all(len(parts) == 1 for parts in parts_of.values())


@quick
@given(one_class_each(), SEEDS)
def test_whole_groups_near_their_share(catalogue, seed):
    split = split_records(catalogue, seed)
    check_whole(split, catalogue)
    assert split.by == "group"
    assert split.grouped
    counts = split.counts(catalogue.classes)
    for name in catalogue.classes:
        largest = max(Counter(record.group for record in catalogue.records if record.label == name).values())
        assert abs(counts["test"][name] - 0.2 * catalogue.counts[name]) <= largest
        rest = catalogue.counts[name] - counts["test"][name]
        assert abs(counts["validation"][name] - VALIDATION_SHARE * rest) <= largest


def split_or_none(catalogue, seed):
    """The split, or None where groups of several classes leave no room for one."""
    try:
        return split_records(catalogue, seed)
    except DataError:
        return None


@quick
@given(several_classes_each(), SEEDS)
def test_groups_of_several_classes_are_whole_or_refused(catalogue, seed):
    split = split_or_none(catalogue, seed)
    assume(split is not None)  # seldom None: hypothesis complains if it were often
    check_whole(split, catalogue)


def test_a_choice_that_leaves_a_part_without_a_class_is_not_taken():
    catalogue = catalogue_of([{"a": 1, "b": 1}, {"a": 30, "b": 2}, {"a": 30}, {"b": 40}, {"a": 3, "b": 30}])
    for seed in range(50):
        check_whole(split_records(catalogue, seed), catalogue)


def test_groups_for_which_there_is_no_split_are_refused():
    # Five groups in three parts: one part gets a single group, and none holds all three classes.
    catalogue = catalogue_of([{"a": 5, "b": 5}, {"a": 5, "b": 5}, {"a": 5, "c": 5}, {"b": 5, "c": 5}, {"b": 5, "c": 5}])
    with pytest.raises(DataError, match="groups that hold several classes leave no room") as caught:
        split_records(catalogue, 0)
    assert "a 3, b 4, c 3" in caught.value.message
    assert "--split CSV (path,label,group,part)" in caught.value.hint


@quick
@given(st.dictionaries(st.sampled_from("abcd"), st.integers(3, 90), min_size=2), SEEDS)
def test_single_images_are_split_80_20(counts, seed):
    catalogue = singles(**counts)
    split = split_records(catalogue, seed)
    check_whole(split, catalogue)
    assert split.by == "image"
    assert not split.grouped
    got = split.counts(catalogue.classes)
    for name, count in counts.items():
        assert abs(got["test"][name] - 0.2 * count) <= 0.5 + 1e-9
        rest = count - got["test"][name]
        assert abs(got["validation"][name] - VALIDATION_SHARE * rest) <= (0.5 + 1e-9 if rest > 2 else 1)  # at least one


def test_the_notebooks_shares():
    split = split_records(singles(glioma=3755, meningioma=2345, notumor=1760, pituitary=2710), 0)
    counts = split.counts(("glioma", "meningioma", "notumor", "pituitary"))
    assert list(counts["test"].values()) == [751, 469, 352, 542]
    assert list(counts["validation"].values()) == [375, 234, 176, 271]


def test_small_groups_come_within_one_percent():
    random_ = random.Random(0)
    catalogue = catalogue_of([{label: random_.randint(1, 5)} for label in "abcd" for _ in range(150)])
    for seed in range(5):
        counts = split_records(catalogue, seed).counts(catalogue.classes)
        for name, count in catalogue.counts.items():
            assert counts["test"][name] / count == pytest.approx(0.2, abs=0.01)
            assert counts["validation"][name] / (count - counts["test"][name]) == pytest.approx(
                VALIDATION_SHARE, abs=0.01
            )


def test_other_shares():
    counts = split_records(singles(a=100, b=50), 0, test_share=0.1, validation_share=0.5).counts("ab")
    assert counts == {"train": {"a": 45, "b": 23}, "validation": {"a": 45, "b": 22}, "test": {"a": 10, "b": 5}}


@quick
@given(several_classes_each(), SEEDS, st.randoms(use_true_random=False))
def test_the_same_seed_gives_the_same_split_in_whatever_order_the_files_come(catalogue, seed, random_):
    shuffled = list(catalogue.records)
    random_.shuffle(shuffled)
    assert split_or_none(replace(catalogue, records=tuple(shuffled)), seed) == split_or_none(catalogue, seed)


def test_another_seed_gives_another_split():
    catalogue = singles(a=40, b=40)
    splits = [split_records(catalogue, seed).parts for seed in range(6)]
    for part in PARTS:
        assert len({split[part] for split in splits}) == 6


def test_the_split_is_the_same_on_every_machine():
    """Written down once: a hash decides, not Python's random numbers, the files' order or the system."""
    split = split_records(singles(a=8, b=6), 42)
    assert {part: [record.path for record in split.parts[part]] for part in PARTS} == {
        "train": [*(f"a/0-{k}.png" for k in (0, 1, 2, 3, 5)), *(f"b/1-{k}.png" for k in (0, 2, 4, 5))],
        "validation": ["a/0-6.png", "b/1-1.png"],
        "test": ["a/0-4.png", "a/0-7.png", "b/1-3.png"],
    }


@pytest.mark.parametrize("count", [1, 2])
def test_a_class_needs_three_groups(count):
    with pytest.raises(DataError, match=f"Class 'b' has {count} images; training, validation and test need one each"):
        split_records(singles(a=9, b=count), 0)
    with pytest.raises(DataError, match=f"Class 'b' has {count} groups") as caught:
        split_records(catalogue_of([{"a": 9}] * 5 + [{"b": 50}] * count), 0)
    assert "--split CSV (path,label,group,part)" in caught.value.hint


def test_counts_names_every_class_in_every_part():
    split = Split({"train": (), "validation": (), "test": (Record("a/1", "a", "g", "h"),)}, "file")
    assert split.counts(["a", "b"]) == {
        "train": {"a": 0, "b": 0}, "validation": {"a": 0, "b": 0}, "test": {"a": 1, "b": 0},
    }  # fmt: skip


# ---- the table --------------------------------------------------------------------------------------------------


@settings(quick, suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture])
@given(catalogue=one_class_each(), seed=SEEDS, grouped=st.booleans())
def test_what_is_written_is_read_back(tmp_path, catalogue, seed, grouped):
    split = split_records(catalogue, seed)
    write_split(split, tmp_path / "split.csv")
    if not grouped:  # the table alone knows the groups
        alone = tuple(replace(record, group=record.path) for record in catalogue.records)
        catalogue = replace(catalogue, records=alone, grouped=False)
    again = read_split(tmp_path / "split.csv", catalogue, seed + 1)
    assert again.parts == split.parts
    assert again.by == "file"


def test_the_table_is_as_documented_and_holds_odd_names(tmp_path):
    names = ['a/x, "y".png', "a/ü 脑.png", "a/[red].png", "b\\c/1.png", " d/1.png", "cafe\u0301/1.png"]
    records = in_order(Record(name, name.rpartition("/")[0], name, "0" * 64) for name in names)
    catalogue = Catalogue(Path("/data"), (" d", "a", "b\\c", "cafe\u0301"), records)
    split = Split({"train": records[1::2], "validation": records[:1], "test": records[2::2]}, "image")
    write_split(split, tmp_path / "split.csv")
    with (tmp_path / "split.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.reader(file))
    assert rows[0] == ["path", "label", "group", "part", "sha256"]
    assert [row[0] for row in rows[1:]] == [record.path for record in records]
    assert b"\r" not in (tmp_path / "split.csv").read_bytes()
    again = read_split(tmp_path / "split.csv", catalogue, 0)
    assert again.parts == split.parts
    assert not again.grouped


@pytest.fixture
def catalogue():
    return singles(a=10, b=10)


@pytest.fixture
def table(tmp_path):
    def write(text):
        (tmp_path / "split.csv").write_text(text, encoding="utf-8")
        return tmp_path / "split.csv"

    return write


def test_path_and_part_are_enough_and_images_may_be_left_out(catalogue, table):
    path = table("part,path\ntrain, a/0-1.png\nvalidation,a\\0-2.png\n\ntest ,./b/1-3.png\n")
    split = read_split(path, catalogue, 0)
    assert {part: [record.path for record in split.parts[part]] for part in PARTS} == {
        "train": ["a/0-1.png"], "validation": ["a/0-2.png"], "test": ["b/1-3.png"],
    }  # fmt: skip
    assert split.parts["test"][0] == next(record for record in catalogue.records if record.path == "b/1-3.png")


def test_empty_cells_say_nothing(catalogue, table):
    path = table("path,label,group,part,sha256\na/0-1.png,,,train,\nb/1-1.png,b,g, test,\n")
    split = read_split(path, catalogue, 0)
    assert split.parts["test"][0].group == "g"
    assert (*split.parts["train"], *split.parts["validation"])[0].group == "a/0-1.png"


def test_validation_is_carved_from_training_by_the_same_rule(catalogue, table):
    rows = [f"{r.path},{'test' if r.path.endswith(('-0.png', '-1.png')) else 'train'}" for r in catalogue.records]
    path = table("path,part\n" + "\n".join(rows))
    split = read_split(path, catalogue, 3)
    check_whole(split, catalogue)
    assert split.counts("ab") == {
        "train": {"a": 7, "b": 7}, "validation": {"a": 1, "b": 1}, "test": {"a": 2, "b": 2},
    }  # fmt: skip
    assert read_split(path, catalogue, 3) == split
    assert len({read_split(path, catalogue, seed).parts["validation"] for seed in range(5)}) > 1
    own = split_records(catalogue, 3)
    rows = [f"{record.path},{'test' if record in own.parts['test'] else 'train'}" for record in catalogue.records]
    path = table("path,part\n" + "\n".join(rows))
    assert read_split(path, catalogue, 3).parts == own.parts


def test_carving_moves_whole_groups_and_never_takes_the_last(table):
    catalogue = catalogue_of([{"a": 4}, {"a": 3}, {"a": 4}, {"b": 5}, {"b": 5}])
    path = table("path,part\n" + "".join(f"{record.path},train\n" for record in catalogue.records))
    for seed in range(5):
        split = read_split(path, catalogue, seed)
        groups = {part: {record.group for record in split.parts[part]} for part in PARTS}
        assert groups["train"] | groups["validation"] == {"p0", "p1", "p2", "p3", "p4"}
        assert not groups["train"] & groups["validation"]
        assert len(groups["validation"] & {"p0", "p1", "p2"}) == len(groups["validation"] & {"p3", "p4"}) == 1
    catalogue = catalogue_of([{"a": 4}, {"a": 3}, {"b": 5}])
    path = table("path,part\n" + "".join(f"{record.path},train\n" for record in catalogue.records))
    assert read_split(path, catalogue, 0).counts("ab")["train"]["b"] == 5


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("path,label\na/0-0.png,a\n", ["has the columns path, label", "'path' and 'part' are needed", "first line"]),
        ("path,part\na/0-0.png,train\na/0-1.png,val\n", ["line 3", "part is 'val'", "train, validation, test"]),
        ("path,part\na/0-0.png,\n", ["line 2", "part is ''", "train, validation, test"]),
        ("path,part\n\na/0-99.png,train\n", ["line 3", "a/0-99.png is no readable image of /data"]),
        ("path,part\na/0-0.png,train\n./a/0-0.png,train\n", ["line 3", "a/0-0.png is listed twice"]),
        ("path,label,part\na/0-0.png,b,train\n", ["line 2", "a/0-0.png is labelled 'b', its folder says 'a'"]),
        ("path,part,sha256\na/0-0.png,train,ff\n", ["line 2", "not the file it was", "Leave out the sha256 column"]),
        (
            "path,group,part\na/0-0.png,g,train\na/0-1.png,g,test\n",
            ["line 3", "group 'g' has a/0-1.png in test and a/0-0.png in train", "Keep each group in one part"],
        ),
        ("path,part\na/0-0.png\n", ["line 2", "1 cells, the header has 2"]),
        ("path,part\n", ["no rows"]),
    ],
)
def test_what_a_table_may_not_say(catalogue, table, text, parts):
    with pytest.raises(DataError) as caught:
        read_split(table(text), catalogue, 0)
    for part in (str(table(text)), *parts):
        assert part in str(caught.value)


def test_a_missing_table(catalogue, tmp_path):
    with pytest.raises(DataError, match=r"none\.csv does not exist"):
        read_split(tmp_path / "none.csv", catalogue, 0)


def test_the_groups_of_a_group_table_count_more_than_the_splits_own(table):
    catalogue = catalogue_of([{"a": 2}, {"b": 2}])
    path = table("path,group,part\na/0-0.png,x,train\na/0-1.png,y,test\n")
    with pytest.raises(DataError, match=r"group 'p0' has a/0-1\.png in test and a/0-0\.png in train"):
        read_split(path, catalogue, 0)
