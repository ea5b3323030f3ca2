"""The group table: what it may look like, and what is said about one that does not fit."""

from pathlib import Path

import pytest

from neurodense.data.catalogue import Catalogue, Record
from neurodense.data.groups import apply_groups, comparable, read_groups, read_table
from neurodense.errors import DataError

PATHS = ("a/1.png", "a/2.png", "b/1.png", "b/2.png")


@pytest.fixture
def catalogue():
    return of(*PATHS)


def of(*paths):
    records = tuple(Record(path, path.partition("/")[0], path, "0" * 64) for path in paths)
    return Catalogue(Path("/data"), tuple(sorted({record.label for record in records})), records)


@pytest.fixture
def table(tmp_path):
    def write(content, encoding="utf-8"):
        path = tmp_path / "groups.csv"
        path.write_bytes(content if isinstance(content, bytes) else content.encode(encoding))
        return path

    return write


def refusal(path, *parts):
    with pytest.raises(DataError) as caught:
        read_groups(path)
    for part in (str(path), *parts):
        assert part in str(caught.value)


def groups(catalogue):
    return {record.path: record.group for record in catalogue.records}


@pytest.mark.parametrize(
    "content",
    [
        "path,label,group\na/1.png,a,p1\na/2.png,a,p1\nb/1.png,b,p2\nb/2.png,b,p2\n",
        "path,patient\na/1.png,p1\na/2.png,p1\nb/1.png,p2\nb/2.png,p2",
        "\ufeffgroup,path\r\np1,a/1.png\r\np1,a/2.png\r\n\r\np2,b/1.png\r\np2,b/2.png\r\n",
        "path,group,patient\na\\1.png,p1,x\na\\2.png,p1,y\n./b/1.png,p2,x\nb//2.png,p2,y\n",
        " path , label , group \na/1.png , a, p1\n a/2.png,a,p1 \nb/1.png,,p2\nb/2.png, ,p2\n",
        'path,group,note\n"a/1.png",p1,"one, two"\na/2.png,p1,"a\nb"\nb/1.png,p2,\nb/2.png,p2,"""x"""\n',
        "path,group\n" + "a/1.png,p1\na/2.png,p1\nb/1.png,p2\nb/2.png,p2\n" * 2,
    ],
    ids=["group", "patient", "BOM, CRLF, blank line", "slashes", "blanks", "quotes", "twice the same"],
)
def test_what_a_table_may_look_like(table, catalogue, content):
    grouped, unlisted = apply_groups(catalogue, read_groups(table(content)))
    assert groups(grouped) == {"a/1.png": "p1", "a/2.png": "p1", "b/1.png": "p2", "b/2.png": "p2"}
    assert unlisted == 0
    assert grouped.grouped
    assert not catalogue.grouped


def test_images_that_are_not_listed_are_counted_and_stand_alone(table, catalogue):
    grouped, unlisted = apply_groups(catalogue, read_groups(table("path,group\na/2.png,p\nelsewhere/9.png,p\n")))
    assert unlisted == 3
    assert groups(grouped) == {"a/1.png": "a/1.png", "a/2.png": "p", "b/1.png": "b/1.png", "b/2.png": "b/2.png"}
    assert [record.sha256 for record in grouped.records] == [record.sha256 for record in catalogue.records]


def test_names_match_however_they_are_written():
    assert comparable(" a\\b/./c.png ") == comparable("a/b//c.png") == comparable("./a/b/c.png") == "a/b/c.png"
    assert comparable("cafe\u0301/1.png") == comparable("caf\u00e9/1.png")
    assert comparable("A/1.png") != comparable("a/1.png")
    assert comparable("  ") == ""


def test_folders_with_odd_names_find_their_rows(table):
    odd = of(" a/1.png", "b\\c/1.png", "cafe\u0301/x .png")
    content = 'path,label,group\n" a/1.png"," a",p1\nb\\c/1.png,b\\c,p2\ncaf\u00e9/x .png,caf\u00e9,p3\n'
    grouped, unlisted = apply_groups(odd, read_groups(table(content)))
    assert [record.group for record in grouped.records] == ["p1", "p2", "p3"]
    assert unlisted == 0


def test_a_table_of_another_folder(table, catalogue):
    with pytest.raises(DataError) as caught:
        apply_groups(catalogue, read_groups(table("path,group\ndata/a/1.png,p\n")))
    text = str(caught.value)
    assert "lists none of the 4 images of " in text
    assert "it has 'data/a/1.png', the folder has 'a/1.png'" in text
    assert "relative to DATA" in text


def test_a_label_that_is_not_the_folders(table, catalogue):
    with pytest.raises(DataError, match=r"labels a/2\.png as 'b', its folder says 'a'"):
        apply_groups(catalogue, read_groups(table("path,label,group\na/1.png,a,p\na/2.png,b,p\n")))


@pytest.mark.parametrize(
    ("content", "parts"),
    [
        ("path,group\na,p1\nb,p1\na,p2\n", ["line 4", "a is in group 'p2' and in 'p1'"]),
        ("path,label,group\na,x,p1\n\n./a,y,p1\n", ["line 4", "a is labelled 'y' and 'x'"]),
        ("path,group\na,p1\nb,\n", ["line 3", "'group' is empty"]),
        ("path,patient\na,  \n", ["line 2", "'patient' is empty"]),
        ("path,group\na,p1\n ,p1\n", ["line 3", "'path' is empty"]),
        ("path,group\na,p1\nb,p2,x\n", ["line 3", "3 cells, the header has 2"]),
        ('path,group\n"a\nb",p1\nb\n', ["line 4", "1 cells, the header has 2"]),
        ("path,label\na,x\n", ["has the columns path, label", "'group' (or 'patient')", "path,label,group"]),
        ("file,group\na,x\n", ["has the columns file, group", "'path'"]),
        ("path;label;group\na;x;p\n", ["has the columns path;label;group", "commas"]),
        ("path,group,group\na,x,y\n", ["more than one column 'group'"]),
        ("path,group\n", ["no rows below its header"]),
        ("path,group\n\n\n", ["no rows below its header"]),
        ("", ["no rows below its header"]),
        (b"path,group\ncaf\xe9,p\n", ["cannot be read as a CSV table", "utf-8"]),
        ("path,group\na,p\n".encode("utf-16"), ["cannot be read as a CSV table"]),
    ],
)  # fmt: skip
def test_what_a_table_may_not_look_like(table, content, parts):
    refusal(table(content), *parts)


def test_no_table(tmp_path):
    refusal(tmp_path / "none.csv", "does not exist")
    refusal(tmp_path, "cannot be read as a CSV table")


def test_rows_come_as_they_are_written(table):
    path = table("\ufeff path ,part\n a/1.png ,train\n\nb/1.png,test \n")
    assert read_table(path) == [{"path": " a/1.png ", "part": "train"}, {"path": "b/1.png", "part": "test "}]
