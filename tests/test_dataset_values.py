"""What a value becomes on its way into the model: pixels, mean and std, types, shapes."""

from __future__ import annotations

import json
from itertools import islice
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray
from PIL import Image

from hybridq.dataset import InputSpec, Preprocessing, open_dataset
from hybridq.dataset.spec import image_layout
from hybridq.errors import DatasetError, OptionError

Array = NDArray[Any]
COLORS = np.array([[[255, 0, 10], [0, 200, 20]], [[0, 0, 255], [90, 80, 70]], [[1, 2, 3], [4, 5, 6]]], np.uint8)  # 3x2


def feed(value: Any, shape: Any, dtype: str = "float32", preprocessing: Preprocessing | None = None) -> Array:
    (sample,) = open_dataset([value], (InputSpec("x", shape, dtype),), preprocessing)
    return sample.feed["x"]


def refuses(value: Any, shape: Any, dtype: str = "float32", preprocessing: Preprocessing | None = None) -> str:
    with pytest.raises(DatasetError) as caught:
        feed(value, shape, dtype, preprocessing)
    return str(caught.value)


@pytest.fixture
def colors(tmp_path: Path) -> Path:
    Image.fromarray(COLORS).save(tmp_path / "c.png")
    return tmp_path / "c.png"


FINITE = st.floats(-1e3, 1e3, width=32)


@given(hnp.arrays(np.float32, (1, 3, 2, 2), elements=FINITE), st.lists(FINITE, min_size=3, max_size=3))
def test_floats_become_x_minus_mean_over_std(values: Array, mean: list[float]) -> None:
    std = [abs(m) + 1 for m in mean]
    wanted = (values - np.float32(mean).reshape(1, 3, 1, 1)) / np.float32(std).reshape(1, 3, 1, 1)
    found = feed(values, (1, 3, 2, 2), preprocessing=Preprocessing.of(mean, std))
    np.testing.assert_array_equal(found, wanted)
    nhwc = np.ascontiguousarray(values.transpose(0, 2, 3, 1))
    again = feed(nhwc, (1, 2, 2, 3), preprocessing=Preprocessing.of(mean, std))
    np.testing.assert_array_equal(again, wanted.transpose(0, 2, 3, 1))


@given(hnp.arrays(np.float32, (1, 3, 2), elements=st.floats(width=32)))
def test_defaults_leave_every_bit_and_copy_nothing(values: Array) -> None:
    found = feed(values, (1, 3, 2))
    assert found.tobytes() == values.tobytes()
    assert np.shares_memory(found, values)


INTEGERS = st.sampled_from(["int8", "uint8", "int16", "int32", "int64", "uint64", "bool"])


@given(hnp.arrays(INTEGERS.map(np.dtype), 3), INTEGERS)
def test_integers_keep_their_value_or_are_refused(values: Array, dtype: str) -> None:
    wide = [int(v) for v in values]
    low, high = (0, 1) if dtype == "bool" else (int(np.iinfo(dtype).min), int(np.iinfo(dtype).max))
    if all(low <= v <= high for v in wide):
        found = feed(values, (3,), dtype)
        assert found.dtype == np.dtype(dtype)
        assert [int(v) for v in found] == wide
    else:
        assert "holds" in refuses(values, (3,), dtype)


def test_types() -> None:
    assert feed(np.float64([1, 2]), (2,), "float16").dtype == np.float16
    assert feed(np.array([1, 2], ">f4"), (2,)).dtype == np.dtype("=f4")
    assert feed(np.array([1 / 3]), (1,), "float64")[0] == 1 / 3
    assert feed(3, (), "int64").shape == ()
    assert feed(np.array([16000]), (), "int64") == 16000
    assert "complex" in refuses(np.zeros(2, complex), (2,))
    assert "int64" in refuses(np.zeros(2), (2,), "int64")
    assert "object" in refuses([None, {}], (2,))
    assert "no array" in refuses([[1], [2, 3]], (2,))
    with pytest.raises(DatasetError, match="no file can feed"):
        InputSpec("x", (1,), "bfloat16")


def test_shapes() -> None:
    assert feed(np.zeros((3, 4)), (1, 3, 4)).shape == (1, 3, 4)
    assert feed(np.zeros((3, 9)), ("N", 3, "L")).shape == (1, 3, 9)
    assert feed(np.zeros((7, 3, 9)), ("N", 3, "L")).shape == (7, 3, 9)
    assert feed(np.zeros((5, 6, 7)), None).shape == (5, 6, 7)
    assert "[2,3]" in refuses(np.zeros((2, 3)), (4, 2, 3)), "a batch of 4 is not made of one"
    assert "transpose(0, 3, 1, 2)" in refuses(np.zeros((1, 8, 8, 3)), (1, 3, 8, 8))
    assert "transpose(2, 0, 1)" in refuses(np.zeros((8, 8, 3)), (1, 3, 8, 8))


def test_a_picture_for_a_model_of_four_at_a_time_is_told_what_to_do() -> None:
    assert "takes 4 at a time" in refuses(np.zeros((1, 3, 8, 8), np.float32), (4, 3, 8, 8))
    assert "at a time" not in refuses(np.zeros((1, 3, 8, 9), np.float32), (4, 3, 8, 8))


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (np.array([{"a": 1}], object), "Pickled data may run code"),
        (np.zeros(2, complex), "complex128"),
        (np.array(["a", "b"]), "not real numbers"),
        (np.zeros(2, [("a", "f4")]), "not real numbers"),
    ],
)
def test_npy_of_other_things(tmp_path: Path, content: Array, said: str) -> None:
    np.save(tmp_path / "a.npy", content)
    assert said in refuses(tmp_path / "a.npy", (2,))


def test_npy_that_is_damaged_or_an_archive(tmp_path: Path) -> None:
    path = tmp_path / "a.npy"
    np.save(path, np.zeros(1000))
    path.write_bytes(path.read_bytes()[:500])
    assert "no readable .npy" in refuses(path, (1000,))
    with path.open("wb") as file:
        np.savez(file, x=np.zeros(2))
    assert "npz archive" in refuses(path, (2,))


def test_layouts(colors: Path) -> None:
    chw = COLORS.transpose(2, 0, 1)[None].astype(np.float32)
    bgr = Preprocessing.of(channel_order="bgr")
    np.testing.assert_array_equal(feed(colors, (1, 3, 3, 2)), chw)
    np.testing.assert_array_equal(feed(colors, ("N", 3, "H", "W")), chw)
    np.testing.assert_array_equal(feed(colors, ("N", "C", "H", "W")), chw)
    np.testing.assert_array_equal(feed(colors, (3, 3, 2)), chw[0])
    np.testing.assert_array_equal(feed(colors, (1, 3, 3, 2), preprocessing=bgr), chw[:, ::-1])
    gray = np.asarray(Image.open(colors).convert("L"), np.float32)
    np.testing.assert_array_equal(feed(colors, (1, 1, 3, 2))[0, 0], gray)
    np.testing.assert_array_equal(feed(colors, (1, "H", "W", 1))[0, :, :, 0], gray)
    assert feed(colors, (1, 4, 3, 2))[0, 3].min() == 255
    assert "takes no image" in refuses(colors, (1, 64, 20, 20))
    assert "-128..127" in refuses(colors, (1, 3, 3, 2), "int8")


def test_nhwc_integer_input_keeps_pixels(tmp_path: Path) -> None:
    pixels = np.arange(5 * 7 * 3, dtype=np.uint8).reshape(5, 7, 3)
    Image.fromarray(pixels).save(tmp_path / "a.bmp")
    np.testing.assert_array_equal(feed(tmp_path / "a.bmp", (1, 5, 7, 3), "uint8"), pixels[None])
    assert image_layout((1, 5, 7, 3)) != image_layout((1, 3, 5, 7))


def test_depths_palettes_alpha_orientation(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    deep = np.array([[0, 256], [65535, 513]], np.uint16)
    Image.fromarray(deep).save(path)
    assert feed(path, (1, 1, 2, 2))[0, 0].tolist() == [[0, 1], [255, 2]]
    palette = Image.fromarray(COLORS).convert("P")
    palette.save(path, transparency=bytes([0] * 256))
    np.testing.assert_array_equal(
        feed(path, (1, 3, 3, 2))[0].transpose(1, 2, 0), np.asarray(palette.convert("RGB"), np.float32)
    )
    Image.fromarray(np.dstack([COLORS, np.zeros((3, 2), np.uint8)])).save(path)
    np.testing.assert_array_equal(feed(path, (1, 3, 3, 2))[0].transpose(1, 2, 0), COLORS)
    Image.fromarray(COLORS[..., 0] > 50).save(path)
    assert set(feed(path, (1, 3, 3, 2)).ravel()) == {0, 255}
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(COLORS).save(path, exif=exif)
    np.testing.assert_array_equal(feed(path, (1, 3, 2, 3))[0].transpose(1, 2, 0), np.rot90(COLORS, -1))


def test_bad_images(tmp_path: Path) -> None:
    shape = (1, 3, 64, 64)
    path = tmp_path / "a.jpg"
    path.write_text("I am text")
    assert "is no image" in refuses(path, shape)
    noise = np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8)
    for name in ("a.jpg", "a.png", "a.bmp"):
        path = tmp_path / name
        Image.fromarray(noise).save(path)
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
        assert f"{name}' cannot be decoded" in refuses(path, shape)


@given(st.tuples(st.integers(1, 40), st.integers(1, 40)), st.tuples(st.integers(1, 20), st.integers(1, 20)))
def test_every_resize_gives_the_size_asked_for(given_size: tuple[int, int], wanted: tuple[int, int]) -> None:
    from hybridq.dataset.images import resized

    picture = Image.new("RGB", given_size, (9, 9, 9))
    for rule in ("stretch", "letterbox", "crop"):
        for anchor in ("center", "topleft"):
            found = resized(picture, wanted, Preprocessing.of(resize=rule, anchor=anchor))
            assert found.size == wanted
            values = {9} if rule != "letterbox" else {9, 114}
            assert set(np.unique(np.asarray(found))) <= values


def test_letterbox_keeps_the_aspect_and_crop_the_centre(tmp_path: Path) -> None:
    half = np.zeros((20, 40, 3), np.uint8)
    half[:, 10:30] = 200
    Image.fromarray(half).save(tmp_path / "a.png")
    centered = feed(tmp_path / "a.png", (1, 3, 20, 20), preprocessing=Preprocessing.of(resize="letterbox"))[0, 0]
    assert (centered[:5] == 114).all()
    assert (centered[-5:] == 114).all()
    assert (centered[5:15] != 114).all()
    low = Preprocessing.of(resize="letterbox", anchor="topleft", pad=0)
    assert (feed(tmp_path / "a.png", (1, 3, 20, 20), preprocessing=low)[0, :, 10:] == 0).all()
    assert (feed(tmp_path / "a.png", (1, 3, 20, 20), preprocessing=Preprocessing.of(resize="crop")) == 200).all()


NUMBERS = st.lists(st.floats(0.01, 1e6), min_size=1, max_size=4)
GIVEN = st.dictionaries(st.text(max_size=5), NUMBERS, max_size=3)


@given(GIVEN, GIVEN, st.sampled_from(["rgb", "bgr"]), st.sampled_from(["stretch", "letterbox", "crop"]))
def test_preprocessing_survives_json(mean: Any, std: Any, order: str, resize: str) -> None:
    made = Preprocessing.of(mean, std, order, resize)
    assert Preprocessing.from_json(json.loads(json.dumps(made.to_json()))) == made


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("127.5", {"": (127.5,)}),
        ("1,2,3", {"": (1, 2, 3)}),
        ("1 2 3", {"": (1, 2, 3)}),
        ("[[1, 2, 3]]", {"": (1, 2, 3)}),
        ("image:0=1,2,3", {"image:0": (1, 2, 3)}),
        (["a=1", "b=2,3"], {"a": (1,), "b": (2, 3)}),
        ({"a": "1", "b": "2,3"}, {"a": (1,), "b": (2, 3)}),
        ([[1, 2, 3]], {"": (1, 2, 3)}),
        (np.float32(2), {"": (2,)}),
        (5, {"": (5,)}),
        (None, {}),
    ],
)
def test_means_as_people_write_them(text: Any, wanted: Any) -> None:
    assert Preprocessing.of(text).mean == wanted


@pytest.mark.parametrize(
    "options",
    [
        {"std": 0},
        {"mean": "a,b"},
        {"mean": float("nan")},
        {"mean": []},
        {"channel_order": "gbr"},
        {"resize": "fit"},
        {"pad": 300},
    ],
)
def test_senseless_preprocessing_is_refused(options: dict[str, Any]) -> None:
    with pytest.raises(OptionError):
        Preprocessing.of(**options)
    with pytest.raises(DatasetError):
        Preprocessing.from_json({"colour": 1})


def test_preprocessing_that_does_not_suit_the_inputs() -> None:
    assert "no input 'y'" in refuses(np.zeros((1, 3)), (1, 3), preprocessing=Preprocessing.of({"y": 1}))
    assert "4 values" in refuses(np.zeros((1, 3)), (1, 3), preprocessing=Preprocessing.of([1, 2, 3, 4]))
    assert "passes as it is" in refuses(np.zeros(3, int), (3,), "int64", Preprocessing.of(5))
    assert "2 channels" in refuses(np.zeros((1, 3)), (1, "C"), preprocessing=Preprocessing.of([1, 2]))


@pytest.mark.parametrize("what", ["mean", "std"])
@pytest.mark.parametrize("ends", [("h", "w"), (8, "w"), (8, 8)])
def test_numbers_that_no_channels_have_are_refused_each_alone(what: str, ends: tuple[str | int, str | int]) -> None:
    picture = InputSpec("x", (1, 3, *ends), "float32")
    for count in range(1, 6):
        for values in ([0.0] * count, [1.0] * count):
            if what == "std" and not any(values):
                continue
            found = Preprocessing.of(**{what: values}).problems([picture])
            assert bool(found) == (count not in (1, 3)), (count, found)
            assert all(what in str(p) for p in found)


@pytest.mark.zoo
@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("ultraface_rfb320", {"mean": 127, "std": 128}),
        ("yunet_n", {"channel_order": "bgr", "resize": "letterbox", "anchor": "topleft", "pad": 0}),
        ("fastestdet", {"std": 255, "channel_order": "bgr"}),
        ("vww_mobilenet", {"std": 255}),
    ],
)
def test_the_zoos_feeds_bit_for_bit(tmp_path: Path, zoo: ModuleType, name: str, options: dict[str, Any]) -> None:
    model = zoo.load(name)
    spec = InputSpec(model.input["name"], tuple(model.input["shape"]), "float32")
    listing = tmp_path / "dataset.txt"
    listing.write_text("".join(f'"{model.path(item)}"\n' for item in model.entry["calibration"][:6]))
    for ours, theirs in zip(
        open_dataset(listing, [spec], Preprocessing.of(**options)), model.calibration(), strict=False
    ):
        assert ours.feed[spec.name].tobytes() == theirs[spec.name].tobytes()


@pytest.mark.zoo
def test_the_zoos_speech_archive(zoo: ModuleType) -> None:
    model = zoo.load("silero_vad")
    inputs = [InputSpec("input", ("N", 576), "float32"), InputSpec("state", (2, "N", 128), "float32")]
    dataset = open_dataset(model.path(model.entry["arrays"]["calibration"]), inputs)
    for ours, theirs in islice(zip(dataset, model.calibration(), strict=True), 9):
        assert all(ours.feed[key].tobytes() == theirs[key].tobytes() for key in ("input", "state"))
