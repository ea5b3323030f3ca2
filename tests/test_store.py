from pathlib import Path

import pytest

torch = pytest.importorskip("torch")

from neurodense.training.store import RowStore


def names(*numbers: int) -> list[str]:
    return [f"n{k}" for k in numbers]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_rows_come_back_bit_for_bit(tmp_path: Path, dtype: torch.dtype) -> None:
    rows = torch.randn(6, 3, 4, 5).to(dtype)
    store = RowStore(tmp_path, (3, 4, 5), dtype)
    store.append(names(0, 1, 2), rows[:3])
    store.append(names(3, 4, 5), rows[3:])
    again = RowStore(tmp_path, (3, 4, 5), dtype)
    for s in (store, again):
        out = s.read(names(5, 0, 3, 0))
        assert out.dtype == dtype
        assert torch.equal(out, rows[[5, 0, 3, 0]])
    again.release()
    assert torch.equal(again.read(names(2)), rows[2:3])


def test_missing_names_what_is_missing_once(tmp_path: Path) -> None:
    store = RowStore(tmp_path, (2,), torch.float32)
    store.append(names(1), torch.ones(1, 2))
    assert store.missing(["n1", "x", "x", "y"]) == ["x", "y"]


@pytest.mark.parametrize("cut", ["rows", "index"])
def test_what_a_kill_leaves_is_cut_off(tmp_path: Path, cut: str) -> None:
    store = RowStore(tmp_path, (4,), torch.float32)
    store.append(names(0, 1), torch.arange(8.0).view(2, 4))
    file = tmp_path / ("rows.bin" if cut == "rows" else "index.txt")
    with file.open("ab") as handle:
        handle.write(b"half")  # a row, or a name without its line end, that was being written
    again = RowStore(tmp_path, (4,), torch.float32)
    again.refresh()
    again.append(names(2), torch.full((1, 4), 9.0))
    assert RowStore(tmp_path, (4,), torch.float32).read(names(2)).tolist() == [[9.0] * 4]
    assert again.read(names(1)).tolist() == [[4.0, 5.0, 6.0, 7.0]]


def test_a_name_without_its_row_is_forgotten(tmp_path: Path) -> None:
    store = RowStore(tmp_path, (4,), torch.float32)
    store.append(names(0, 1), torch.zeros(2, 4))
    with (tmp_path / "rows.bin").open("r+b") as handle:
        handle.truncate(20)
    assert RowStore(tmp_path, (4,), torch.float32).missing(names(0, 1)) == ["n1"]


def test_another_shape_is_refused(tmp_path: Path) -> None:
    RowStore(tmp_path, (4,), torch.float32)
    with pytest.raises(ValueError, match=r"about\.json"):
        RowStore(tmp_path, (5,), torch.float32)


def test_rows_that_another_process_appended_are_seen(tmp_path: Path) -> None:
    first, second = RowStore(tmp_path, (2,), torch.float32), RowStore(tmp_path, (2,), torch.float32)
    first.append(names(0), torch.zeros(1, 2))
    second.refresh()
    second.append(names(1), torch.ones(1, 2))
    first.refresh()
    assert first.read(names(0, 1)).tolist() == [[0, 0], [1, 1]]
