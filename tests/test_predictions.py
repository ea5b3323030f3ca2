import numpy as np
import pytest

from neurodense.errors import DataError
from neurodense.evaluation.predictions import Predictions, read_predictions, write_predictions

HEAD = "source,true,predicted,p:a,p:b\n"


def sample(n=50, labels=("glioma", "no, tumor", 'p:"odd"'), groups=True):
    rng = np.random.default_rng(0)
    probabilities = rng.dirichlet(np.full(len(labels), 0.3), size=n)
    sources = tuple(f"Te-{i}, é.png" for i in range(n))
    names = tuple(f"patient {i // 3}" for i in range(n)) if groups else None
    return Predictions(labels, sources, rng.integers(len(labels), size=n), probabilities, names)


def assert_same(got, wanted):
    assert (got.labels, got.sources, got.groups) == (wanted.labels, wanted.sources, wanted.groups)
    assert got.truth.dtype == np.int64
    np.testing.assert_array_equal(got.truth, wanted.truth)
    np.testing.assert_array_equal(got.probabilities, wanted.probabilities)  # to the last bit


@pytest.mark.parametrize("groups", [True, False])
def test_round_trip_is_exact(tmp_path, groups):
    wanted = sample(groups=groups)
    write_predictions(wanted, tmp_path / "new" / "predictions.csv")
    got = read_predictions(tmp_path / "new" / "predictions.csv")
    assert_same(got, wanted)
    write_predictions(got, tmp_path / "again.csv")
    assert (tmp_path / "again.csv").read_bytes() == (tmp_path / "new" / "predictions.csv").read_bytes()


@pytest.mark.parametrize("name", ["a\rb", "a\nb", "a\r\nb", 'a"b', " a ", "", "=1+1", "caf\udce9.png"])
def test_odd_names_round_trip(tmp_path, name):
    wanted = Predictions(("a", "b"), (name, "c"), np.array([0, 1]), np.array([[0.1, 0.9], [0.25, 0.75]]), ("", name))
    write_predictions(wanted, tmp_path / "p.csv")
    assert_same(read_predictions(tmp_path / "p.csv"), wanted)


def test_the_form_of_the_file(tmp_path):
    probabilities = np.array([[0.1, 0.9], [0.5, 0.5]])
    write_predictions(Predictions(("a", "b"), ("x.png", "y,z.png"), np.array([1, 1]), probabilities), tmp_path / "p")
    assert (tmp_path / "p").read_bytes() == HEAD.encode() + b'x.png,b,b,0.1,0.9\n"y,z.png",b,a,0.5,0.5\n'
    grouped = Predictions(("a", "b"), ("x.png", "y.png"), np.array([1, 1]), probabilities, ("g1", "g2"))
    write_predictions(grouped, tmp_path / "p")
    assert (tmp_path / "p").read_text().splitlines()[:2] == [
        "source,true,group,predicted,p:a,p:b",
        "x.png,b,g1,b,0.1,0.9",
    ]


def test_a_byte_order_mark_and_crlf_are_taken(tmp_path):
    (tmp_path / "p.csv").write_bytes(b"\xef\xbb\xbf" + HEAD.strip().encode() + b"\r\nx.png,a,b,0.1,0.9\r\n")
    assert read_predictions(tmp_path / "p.csv").sources == ("x.png",)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", r"line 1: the columns must be .* Got nothing"),
        ("true,source,predicted,p:a,p:b\n", r"line 1: the columns must be source, true"),
        ("source,true,predicted,group,p:a,p:b\n", r"line 1: the columns must be"),
        ("source,true,predicted,p:a\n", r"line 1: the columns must be .* two or more"),
        ("source,true,predicted,p:a,p:a\n", r"line 1: the columns must be .* each once"),
        ("source,true,predicted,p:a,p:b,note\n", r"line 1: the columns must be .* Got .*note"),
        (HEAD, r"line 1: the file must have one row an image"),
        (HEAD + "x,a,b,0.1,0.9\nx,a,b,0.1\n", r"line 3: a row must have 5 values, .* Got 4"),
        (HEAD + '"x\ny",a,b,0.1,0.9\nx,c,b,0.1,0.9\n', r"line 4: true must be one of a, b\. Got 'c'"),
        (HEAD + "x,a,b,0.1,much\n", r"line 2: probabilities must be .* Got 0\.1, much"),
        (HEAD + "x,a,b,0.1,0.8\n", r"line 2: probabilities must be .* sum to 1"),
        (HEAD + "x,a,b,-0.1,1.1\n", r"line 2: probabilities must be in \[0, 1\]"),
        (HEAD + "x,a,b,nan,0.9\n", r"line 2: probabilities must be"),
        (HEAD + "x,a,a,0.1,0.9\n", r"line 2: predicted must be the most probable class, 'b'\. Got 'a'"),
        (HEAD + '"x"y,a,b,0.1,0.9\n', r"line 2: not a line of comma-separated values"),
    ],
)
def test_wrong_files(tmp_path, text, message):
    path = tmp_path / "p.csv"
    path.write_text(text)
    with pytest.raises(DataError, match=message) as caught:
        read_predictions(path)
    assert str(path) in caught.value.message


def test_no_file(tmp_path):
    with pytest.raises(DataError, match=r"nowhere\.csv cannot be read: No such file"):
        read_predictions(tmp_path / "nowhere.csv")


def test_parts_must_fit():
    good = {
        "labels": ("a", "b"),
        "sources": ("x", "y"),
        "truth": np.array([0, 1]),
        "probabilities": np.array([[0.1, 0.9], [0.5, 0.5]]),
    }
    np.testing.assert_array_equal(Predictions(**good).predicted, [1, 0])
    for change, message in (
        ({"sources": ("x",)}, "sources must have one entry an image, 2 in all. Got 1"),
        ({"groups": ("x", "y", "z")}, "groups must have one entry an image, 2 in all. Got 3"),
        ({"truth": np.array([0, 2])}, r"truth must be in 0\.\.1"),
    ):
        with pytest.raises(ValueError, match=message):
            Predictions(**{**good, **change})


def test_a_failed_write_leaves_the_old_file(tmp_path):
    path = tmp_path / "p.csv"
    write_predictions(sample(3), path)
    before = path.read_bytes()
    broken = sample(2)
    object.__setattr__(broken, "sources", ("x",))
    with pytest.raises(ValueError, match="zip"):
        write_predictions(broken, path)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]
