"""Every source gives the same feeds, walks again, and says with file and line what is wrong."""

from __future__ import annotations

import io
import pickle
import string
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from hybridq.dataset import Dataset, InputSpec, Preprocessing, open_dataset
from hybridq.dataset.sources import split_columns, spread
from hybridq.errors import DatasetError

ONE = (InputSpec("x", (1, 3), "float32"),)
TWO = (InputSpec("x", (1, 3), "float32"), InputSpec("state", (2, 1, 4), "float32"))
DYNAMIC = (
    InputSpec("x", ("N", 3), "float32"),
    InputSpec("state", (2, "N", 4), "float32"),
    InputSpec("sr", (), "int64"),
)
Values = list[dict[str, NDArray[Any]]]


def feeds_of(dataset: Dataset) -> Values:
    return [sample.feed for sample in dataset]


def same(a: Values, b: Values) -> bool:
    return len(a) == len(b) and all(
        x.keys() == y.keys() and all(np.array_equal(x[k], y[k]) for k in x) for x, y in zip(a, b, strict=True)
    )


@pytest.fixture
def rows() -> Values:
    rng = np.random.default_rng(0)
    return [
        {"x": rng.normal(size=(1, 3)).astype(np.float32), "state": rng.normal(size=(2, 1, 4)).astype(np.float32)}
        for _ in range(5)
    ]


def write(folder: Path, rows: Values) -> Path:
    for n, row in enumerate(rows):
        for key, value in row.items():
            np.save(folder / f"{n}_{key}.npy", value)
    listing = folder / "dataset.txt"
    listing.write_text("".join(" ".join(f"{n}_{key}.npy" for key in row) + "\n" for n, row in enumerate(rows)))
    return listing


def fails(source: Any, inputs: tuple[InputSpec, ...] = ONE, **more: Any) -> DatasetError:
    with pytest.raises(DatasetError) as caught:
        list(open_dataset(source, inputs, **more))
    return caught.value


def test_list_archive_and_iterable_give_the_same_feeds(tmp_path: Path, rows: Values) -> None:
    np.savez(tmp_path / "leading.npz", **{k: np.stack([r[k] for r in rows]) for k in rows[0]})
    np.savez_compressed(
        tmp_path / "batched.npz",
        x=np.concatenate([r["x"] for r in rows]),
        state=np.asfortranarray(np.stack([r["state"] for r in rows])),
    )
    sources = [write(tmp_path, rows), tmp_path / "leading.npz", tmp_path / "batched.npz", rows, lambda: iter(rows)]
    for source in sources:
        dataset = open_dataset(source, TWO)
        assert same(feeds_of(dataset), rows)
        assert same(feeds_of(dataset), rows), "a second walk gives the same"
        assert dataset.count in (5, None)
        assert [s.line for s in dataset] == ([1, 2, 3, 4, 5] if source == sources[0] else [0] * 5)
        taken = [rows[i] for i in spread(5, 2)] if dataset.count else rows[:2]
        assert same(feeds_of(open_dataset(source, TWO, samples=2)), taken)


def test_an_archive_that_unpacks_to_a_gigabyte_is_passed_over(tmp_path: Path) -> None:
    count = 4_000_000
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": "<f4", "fortran_order": False, "shape": (count, 1, 3)})
    path = tmp_path / "many.npz"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive, archive.open("x.npy", "w") as file:
        file.write(header.getvalue())
        for _ in range(48):
            file.write(bytes(1_000_000))
    began = time.process_time()
    found = feeds_of(open_dataset(path, ONE, samples=2))
    assert len(found) == 2
    assert time.process_time() - began < 5.0


def test_a_million_missing_files_are_told_after_the_first_hundred(tmp_path: Path) -> None:
    path = tmp_path / "dataset.txt"
    path.write_text("".join(f"{n}.npy\n" for n in range(1_000_000)))
    began = time.process_time()
    told = str(fails(path))
    assert time.process_time() - began < 1.0
    assert "0.npy" in told
    assert "what comes after line 100 was not looked at" in told
    assert told.count("\n") < 120


@pytest.mark.parametrize("fortran", [False, True])
def test_an_archive_that_speaks_of_more_than_it_holds_is_refused(tmp_path: Path, fortran: bool) -> None:
    header = io.BytesIO()
    shape = (10**9, 1, 3)
    np.lib.format.write_array_header_1_0(header, {"descr": "<f4", "fortran_order": fortran, "shape": shape})
    path = tmp_path / "lie.npz"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("x.npy", header.getvalue() + bytes(100))
    with pytest.raises(DatasetError, match="speaks of 12000000000 bytes, but"):
        open_dataset(path, ONE)


@given(count=st.integers(1, 300), samples=st.integers(1, 320))
def test_samples_are_spread_over_the_list(count: int, samples: int) -> None:
    found = spread(count, samples)
    assert found == spread(count, samples)
    assert len(found) == min(count, samples)
    assert found == sorted(set(found))
    for part, i in enumerate(found):  # one of each of equal stretches
        assert part * count // len(found) <= i < (part + 1) * count // len(found)


@given(cuts=st.tuples(st.integers(0, 5), st.integers(0, 5)), samples=st.integers(1, 9))
def test_parts_make_the_whole(cuts: tuple[int, int], samples: int) -> None:
    dataset = open_dataset([np.full((1, 3), n) for n in range(5)], ONE, samples=samples)
    first, second = sorted(cuts)
    ends = [(0, first), (first, second), (second, None)]
    parts = [dataset.part(*end) for end in ends]
    lengths = [part.count or 0 for part in parts]
    assert sum(lengths) == len(dataset) == min(5, samples)
    found = [sample for part, n in zip(parts, lengths, strict=True) if n for sample in part]
    assert [s.name for s in found] == [s.name for s in dataset]


def test_datasets_travel_to_other_processes(tmp_path: Path, rows: Values) -> None:
    dataset = open_dataset(write(tmp_path, rows), TWO, Preprocessing.of({"x": 1}), samples=4)
    again = pickle.loads(pickle.dumps(dataset))
    assert again.preprocessing == dataset.preprocessing
    assert same(feeds_of(again.part(2, None)), feeds_of(dataset)[2:])
    assert feeds_of(dataset.part(0, 0)) == []


def test_an_iterator_walks_once(rows: Values) -> None:
    dataset = open_dataset(iter(rows), TWO)
    assert len(list(dataset)) == 5
    with pytest.raises(DatasetError, match="used up"):
        list(dataset)


def test_bare_arrays_paths_and_one_feed(tmp_path: Path) -> None:
    value = np.ones((1, 3), np.float32)
    np.save(tmp_path / "a.npy", value)
    for source in ([value], {"x": value}, [tmp_path / "a.npy"], [str(tmp_path / "a.npy")], tmp_path / "a.npy", value):
        assert same(feeds_of(open_dataset(source, ONE)), [{"x": value}])


def test_a_stacked_npy_counts_samples(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.arange(12, dtype=np.float32).reshape(4, 3))
    dataset = open_dataset(tmp_path / "a.npy", ONE)
    assert len(dataset) == 4
    assert [s.feed["x"][0, 0] for s in dataset] == [0, 3, 6, 9]


def test_archive_constants_extras_and_faults(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    np.savez(path, x=np.zeros((3, 1, 3)), state=np.zeros((2, 1, 4)), sr=np.int64(16000), label=np.arange(3))
    dataset = open_dataset(path, DYNAMIC)
    assert [int(s.feed["sr"]) for s in dataset] == [16000] * 3
    assert "label" in dataset.notes[0].message
    np.savez(path, x=np.zeros((3, 1, 3)), state=np.zeros((4, 2, 1, 4)))
    assert "different numbers of samples" in str(fails(path, TWO))
    np.savez(path, y=np.zeros((3, 1, 3)), z=np.zeros(3))
    assert "nothing for input 'x'" in str(fails(path))
    np.savez(path, x=np.zeros((3, 1, 4)))
    assert "[3,1,4]" in str(fails(path))
    np.savez(path, x=np.array([{}], object))
    assert "object" in str(fails(path))
    np.savez(path, x=np.zeros((0, 3)))
    assert "no sample" in str(fails(path))
    np.savez(path, x=np.zeros((300, 3)))
    path.write_bytes(path.read_bytes()[:1000])
    assert "readable .npz" in str(fails(path))


def test_an_archive_with_a_wrong_checksum_is_damaged(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    np.savez(path, x=np.full((5000, 3), 7.0))
    data = bytearray(path.read_bytes())
    with zipfile.ZipFile(path) as archive:
        data[archive.infolist()[0].header_offset + 90000] ^= 255
    path.write_bytes(bytes(data))
    assert "damaged" in str(fails(path))


def test_folder_is_sorted_and_says_what_it_left_out(tmp_path: Path) -> None:
    for name in ("b.npy", "a.npy", "C.NPY"):
        with (tmp_path / name).open("wb") as file:
            np.save(file, np.zeros(3))
    (tmp_path / "notes.md").write_text("x")
    (tmp_path / ".hidden.npy").write_text("x")
    dataset = open_dataset(tmp_path, ONE)
    assert [s.name for s in dataset] == ["C.NPY", "a.npy", "b.npy"]
    assert "notes.md" in dataset.notes[0].message
    assert "several" in str(fails(tmp_path, TWO)) or "2" in str(fails(tmp_path, TWO))
    (tmp_path / "empty" / "inner").mkdir(parents=True)
    assert "not searched" in str(fails(tmp_path / "empty"))


@pytest.mark.parametrize(
    ("line", "columns"),
    [
        ("a.npy b.npy", ["a.npy", "b.npy"]),
        ("\"a b.npy\"\t'c d.npy' # two", ["a b.npy", "c d.npy"]),
        ("John's#1.jpg", ["John's#1.jpg"]),
        ("  # only this", []),
        ("a.npy #b.npy", ["a.npy"]),
        ("", []),
    ],
)
def test_columns(line: str, columns: list[str]) -> None:
    assert split_columns(line) == (columns, "")


NAMES = st.text(string.ascii_letters + string.digits + " #'._-äß漢", min_size=1, max_size=8)


@given(st.lists(NAMES, max_size=4), st.sampled_from([" ", "\t", "   "]))
def test_quoted_names_come_back(names: list[str], gap: str) -> None:
    assert split_columns(gap.join(f'"{name}"' for name in names)) == (names, "")


@given(st.text(max_size=40))
def test_any_line_is_split_or_said_to_be_wrong(text: str) -> None:
    columns, said = split_columns(text)
    assert all(columns) or '""' in text or "''" in text
    assert isinstance(said, str)


def test_windows_text_is_read(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    np.save(tmp_path / "in" / "a b.npy", np.zeros(3))
    (tmp_path / "d.txt").write_bytes(b'\xef\xbb\xbf# list\r\n\r\n"in\\a b.npy"\r\n')
    assert [s.line for s in open_dataset(tmp_path / "d.txt", ONE)] == [3]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "names no sample"),
        (b"# nothing\n\n", "names no sample"),
        (b"\x08\x00\x12\x07pytorch", "no text file"),
        (b"ok.npy\n\xff\xfe\n", "d.txt:2: is no UTF-8"),
        (b'ok.npy\n"a b.npy\n', "d.txt:2: a quote is not closed"),
        (b"ok.npy ok.npy\n", "d.txt:1: 2 columns, but the model has 1 input"),
        (b"a b.npy\n", 'put it in quotes, "a b.npy"'),
        (b"ok.npy\nok.doc\n", "d.txt:2: 'ok.doc' does not exist"),
        (b"d.txt\n", "of no known kind"),
        (b".\n", "is a folder"),
    ],
)
def test_bad_lists(tmp_path: Path, content: bytes, said: str) -> None:
    for name in ("ok.npy", "a b.npy"):
        np.save(tmp_path / name, np.zeros(3))
    (tmp_path / "d.txt").write_bytes(content)
    assert said in str(fails(tmp_path / "d.txt"))


def test_all_missing_files_are_told_at_once(tmp_path: Path) -> None:
    listing = tmp_path / "d.txt"
    listing.write_text("".join(f"{n}.npy\n" for n in range(7)))
    assert [p.line for p in fails(listing).problems] == [1, 2, 3, 4, 5, 6, 7]
    assert len(fails(listing, samples=3).problems) == 3, "lines that will not be read are not checked"
    listing.write_text("".join(f"{n}.npy\n" for n in range(500)))
    assert "50 more" in fails(listing).problems[-1].message


def test_sources_that_are_none(tmp_path: Path) -> None:
    assert "does not exist" in str(fails(tmp_path / "no.txt"))
    assert "is empty" in str(fails([]))
    assert "is empty" in str(fails(iter(())))
    assert "is no dataset" in str(fails(5))
    assert "samples asked for" in str(fails([np.zeros(3)], samples=0))
    assert "Did you mean 'state'" in str(fails([{"x": np.zeros(3), "stat": 1}], TWO))


def test_a_wrong_sample_is_named_when_it_is_reached(tmp_path: Path) -> None:
    listing = write(tmp_path, [{"x": np.zeros((1, 3))}, {"x": np.zeros((1, 4))}])
    walk = iter(open_dataset(listing, ONE))
    next(walk)
    with pytest.raises(DatasetError) as caught:
        next(walk)
    problem = caught.value.problems[0]
    assert (problem.path, problem.line) == (str(listing), 2)
    assert problem.message == "'1_x.npy' has shape [1,4], but input 'x' is [1,3]"


def test_batches_stack_along_each_inputs_batch_axis() -> None:
    rows = [{"x": np.full((1, 3), n), "state": np.full((2, 1, 4), n), "sr": 16000} for n in range(5)]
    seen: list[str] = []
    batches = list(open_dataset(rows, DYNAMIC).batches(2, lambda s: seen.append(s.name)))
    assert [b.count for b in batches] == [2, 2, 1]
    assert [b.feed["x"].shape for b in batches] == [(2, 3), (2, 3), (1, 3)]
    assert batches[1].feed["state"].shape == (2, 2, 4)
    assert batches[1].feed["state"][0, 1, 0] == 3
    assert batches[0].feed["sr"].shape == ()
    assert len(seen) == 5


def test_samples_that_differ_in_size_are_not_stacked() -> None:
    spec = (InputSpec("x", ("N", "L"), "float32"),)
    batches = list(open_dataset([np.zeros(n) for n in (4, 4, 5, 4)], spec).batches(4))
    assert [b.feed["x"].shape for b in batches] == [(2, 4), (1, 5), (1, 4)]


def test_a_fixed_batch_is_not_stacked() -> None:
    dataset = open_dataset([np.zeros(3)], ONE)
    assert len(list(dataset.batches(1))) == 1
    with pytest.raises(DatasetError, match="fixed"):
        list(dataset.batches(2))


def test_nothing_is_read_before_it_is_needed(tmp_path: Path) -> None:
    Image.new("RGB", (4, 4)).save(tmp_path / "a.png")
    (tmp_path / "b.png").write_text("not an image")
    dataset = open_dataset(tmp_path, (InputSpec("x", (1, 3, 4, 4), "float32"),))
    assert len(dataset) == 2
    assert next(iter(dataset)).name == "a.png"

    def endless() -> Iterator[NDArray[Any]]:
        while True:
            yield np.zeros(3)

    assert len(list(open_dataset(endless, ONE, samples=3))) == 3


NPY = np.lib.format.magic(1, 0)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60, deadline=None)
@given(
    st.one_of(
        st.binary(max_size=300),
        st.binary(max_size=200).map(lambda tail: NPY + tail),
        st.tuples(st.text(max_size=60), st.binary(max_size=40)).map(
            lambda t: (
                NPY
                + (len(t[0].encode("latin1", "replace"))).to_bytes(2, "little")
                + t[0].encode("latin1", "replace")
                + t[1]
            )
        ),
    )
)
@pytest.mark.filterwarnings("ignore")
def test_arbitrary_bytes_end_in_a_dataset_error(tmp_path: Path, data: bytes) -> None:
    for name in ("a.npy", "a.npz", "a.jpg", "a.png", "a.bmp", "a.txt"):
        (tmp_path / name).write_bytes(data)
        with pytest.raises(DatasetError):
            list(open_dataset(tmp_path / name, (InputSpec("x", (1, 3, 4, 4), "float32"),)))
