"""Data sets in .npz files, sound and hostile."""

import io
import itertools
import os
import struct
import tracemalloc
import warnings
import zipfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from torchvision.transforms.functional import to_tensor

from learning.data.base import DataError, NotThereError
from learning.data.images import to_unit
from learning.data.npz import Npz

RNG = np.random.default_rng(0)
NHW = RNG.integers(0, 256, (20, 6, 5), np.uint8)
LABELS = np.arange(20, dtype=np.uint8) % 4


def save(tmp_path, **arrays):
    path = tmp_path / "set.npz"
    np.savez(path, **arrays)
    return str(path)


def load(tmp_path, arrays, **fields):
    return Npz(path=save(tmp_path, **arrays), **fields).load()


def sound(**changes):
    arrays = {"x_train": NHW, "y_train": LABELS, "x_test": NHW[:8], "y_test": LABELS[:8]}
    return {name: a for name, a in (arrays | changes).items() if a is not None}


@pytest.mark.parametrize("write", [np.savez, np.savez_compressed])
def test_keras_layout(tmp_path, write):
    write(tmp_path / "set.npz", **sound())
    data = Npz(path=str(tmp_path / "set.npz")).load()
    np.testing.assert_array_equal(data.x_train[:, 0], NHW / np.float32(255))
    np.testing.assert_array_equal(data.y_train, LABELS)
    assert data.x_test.shape == (8, 1, 6, 5)
    assert data.y_test.dtype == np.int64
    assert data.class_names == ("0", "1", "2", "3")


def test_pixels_are_those_of_torchvisions_to_tensor():
    image = np.arange(256, dtype=np.uint8).reshape(16, 16)
    np.testing.assert_array_equal(to_unit(image[None, None], "here")[0], to_tensor(image).numpy())


@pytest.mark.parametrize(
    ("shape", "layout", "channels"),
    [
        ((20, 6, 5), "auto", 1),
        ((20, 6, 5), "nhw", 1),
        ((20, 6, 5, 3), "auto", 3),
        ((20, 3, 6, 5), "auto", 3),
        ((20, 6, 5, 4), "auto", 4),
        ((20, 1, 6, 5), "auto", 1),
        ((20, 6, 5, 7), "nhwc", 7),
        ((20, 7, 6, 5), "nchw", 7),
        ((20, 3, 5, 3), "nhwc", 3),
    ],
)
def test_layouts(tmp_path, shape, layout, channels):
    x = RNG.integers(0, 256, shape, np.uint8)
    data = load(tmp_path, {"x_train": x, "y_train": LABELS}, layout=layout)
    last = layout == "nhwc" or (layout == "auto" and shape[-1] in (3, 4))
    assert data.shape == (channels, *(shape[1:3] if last else shape[-2:]))
    for n, c, h, w in itertools.product((0, 19), (0, channels - 1), (0, 2), (0, 2)):
        raw = x[n, h, w] if len(shape) == 3 else x[n, h, w, c] if last else x[n, c, h, w]
        assert data.x_train[n, c, h, w] == np.float32(raw) / np.float32(255)
    assert data.x_train.flags.c_contiguous


@pytest.mark.parametrize(
    "shape", [(20, 3, 5, 3), (20, 6, 5, 7), (20, 30), (20,), (), (20, 1, 2, 3, 4)]
)
def test_a_layout_that_cannot_be_told_is_asked_for(tmp_path, shape):
    with pytest.raises(DataError, match="set layout to nhw, nhwc or nchw"):
        load(tmp_path, {"x_train": np.zeros(shape, np.uint8), "y_train": LABELS})


def test_a_layout_that_does_not_fit(tmp_path):
    with pytest.raises(DataError, match="expected layout nhwc, 4 dimensions, got"):
        load(tmp_path, sound(), layout="nhwc")


@pytest.mark.parametrize("dtype", ["<f2", "<f4", ">f4", "<f8", ">f8"])
def test_floats_in_the_unit_interval(tmp_path, dtype):
    x = (NHW / 255).astype(dtype)
    data = load(tmp_path, {"x_train": x, "y_train": LABELS})
    np.testing.assert_array_equal(data.x_train[:, 0], x.astype(np.float32))


@pytest.mark.parametrize("dtype", ["i1", "<i2", ">i4", "<i8", "u1", "<u8"])
def test_integer_labels(tmp_path, dtype):
    data = load(tmp_path, sound(y_train=LABELS.astype(dtype)[:, None]))
    np.testing.assert_array_equal(data.y_train, LABELS)


def test_fortran_order(tmp_path):
    x = np.asfortranarray(NHW)
    data = load(tmp_path, {"x_train": x, "y_train": LABELS})
    np.testing.assert_array_equal(data.x_train[:, 0], NHW / np.float32(255))


def test_without_a_test_split(tmp_path):
    data = load(tmp_path, sound(x_test=None, y_test=None))
    assert data.x_test.shape == (0, 1, 6, 5)
    assert data.y_test.shape == (0,)


def test_an_empty_test_split(tmp_path):
    data = load(tmp_path, sound(x_test=NHW[:0], y_test=LABELS[:0]))
    assert data.x_test.shape == (0, 1, 6, 5)


def test_other_arrays_are_left_alone(tmp_path):
    objects = np.array([{"a": 1}], dtype=object)
    assert len(load(tmp_path, sound(names=objects)).y_train) == 20


BAD = {
    "no x_train": (sound(x_train=None), "expected arrays x_train and y_train.* got 'y_train'"),
    "no y_train": (sound(y_train=None), "expected arrays x_train and y_train"),
    "x_test alone": (sound(y_test=None), "x_test with y_test or neither"),
    "empty": (sound(x_train=NHW[:0], y_train=LABELS[:0]), "expected training rows"),
    "no pixels": (sound(x_train=NHW[:, :0], x_test=None, y_test=None), "images with pixels"),
    "object": (sound(x_train=NHW.astype(object)), "expected integers or floats, got object"),
    "object labels": (sound(y_train=LABELS.astype(object)), "integers or floats, got object"),
    "strings": (sound(y_train=LABELS.astype("U9")), "(number the classes from 0)"),
    "complex": (sound(x_train=NHW.astype(complex)), "integers or floats, got complex"),
    "bool": (sound(x_train=NHW > 5), "expected integers or floats, got bool"),
    "int64": (sound(x_train=NHW.astype(int)), "pixels uint8, or float .* got int64"),
    "structured": (
        sound(x_train=np.zeros(20, [("a", "f4"), ("b", "f4")])),
        "expected integers or floats",
    ),
    "0..255 floats": (sound(x_train=NHW.astype("f4")), r"float pixels in \[0, 1\], got 0 to 25"),
    "negative": (sound(x_train=NHW / 255 - 0.5), r"float pixels in \[0, 1\], got -0.5"),
    "NaN": (sound(x_train=np.where(NHW > 99, np.nan, 0)), "got nan to nan"),
    "inf": (sound(x_test=np.full((8, 6, 5), np.inf)), "got inf to inf in x_test"),
    "float labels": (sound(y_train=LABELS.astype("f4")), "expected integer labels, got float32"),
    "one-hot": (
        sound(y_train=np.eye(4, dtype=int)[LABELS]),
        r"expected 20 labels, .* got \(20, 4\) in y_train .*argmax",
    ),
    "flags": (sound(y_train=LABELS > 1), "expected integers or floats, got bool"),
    "short labels": (sound(y_train=LABELS[:19]), r"expected 20 labels.* got \(19,\) in y_train"),
    "negative label": (
        sound(y_train=np.where(np.arange(20) == 7, -1, LABELS.astype(int))),
        r"got -1 in row 7 of y_train",
    ),
    "huge label": (sound(y_train=np.full(20, 2**63, "u8")), "got 9223372036854775808 in row 0"),
    "from one": (
        sound(y_train=LABELS + 1, y_test=LABELS[:8] + 1),
        "every label from 0 to 4, got no 0 .*: renumber",
    ),
    "gap": (sound(y_train=LABELS * 2), "every label from 0 to 6, got no 5"),
    "test shape": (sound(x_test=NHW[:8, 1:]), r"expected x_test of shape \(1, 6, 5\)"),
}  # fmt: skip


@pytest.mark.parametrize(("arrays", "message"), BAD.values(), ids=BAD)
def test_bad_arrays_are_refused_by_name(tmp_path, arrays, message):
    """Cases labels-not-from-zero and label-forms; a column (n, 1) is taken, as tested above."""
    with pytest.raises(DataError, match=message) as caught:
        load(tmp_path, arrays)
    assert "set.npz" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_stated_classes(tmp_path):
    arrays = sound(y_train=LABELS * 2)
    assert load(tmp_path, arrays, classes=9).classes == 9
    with pytest.raises(DataError, match=r"labels in 0\.\.5, got 6 in row 3 of y_train"):
        load(tmp_path, arrays, classes=6)


def test_memory_guard(tmp_path):
    # 28 images of 30 pixels: 3360 bytes as float32
    assert load(tmp_path, sound(), max_gib=3361 / 2**30).classes == 4
    with pytest.raises(DataError, match=r"as float32, got .* raise max_gib"):
        load(tmp_path, sound(), max_gib=3359 / 2**30)
    with pytest.raises(DataError, match="expected at most max_gib"):
        load(tmp_path, sound(y_train=np.zeros((20, 400), int)), max_gib=3361 / 2**30)


def npy(shape, descr="|u1", body=b"", version=(1, 0), header=None):
    text = header or f"{{'descr': '{descr}', 'fortran_order': False, 'shape': {shape}, }}"
    raw = text.encode() + b"\n"
    size = struct.pack("<H" if version == (1, 0) else "<I", len(raw))
    return b"\x93NUMPY" + bytes(version) + size + raw + body


def hostile(tmp_path, x_train, compression=zipfile.ZIP_STORED):
    path = tmp_path / "hostile.npz"
    with zipfile.ZipFile(path, "w", compression) as members:
        members.writestr("x_train.npy", x_train)
        members.writestr("y_train.npy", npy((20,), body=LABELS.tobytes()))
    return str(path)


HEADERS = {
    **{f"2^{k} values": npy(f"({2**k}, 8, 8)", "<f4") for k in (14, 30, 54, 63, 200)},
    "negative": npy("(-1, 8, 8)", body=bytes(64)),
    "two negatives": npy("(-1, -8, 8)", body=bytes(64)),
    "float shape": npy("(1.0, 8, 8)", body=bytes(64)),
    "not a tuple": npy("64", body=bytes(64)),
    "one byte short": npy("(1, 8, 8)", body=bytes(63)),
    "one byte more": npy("(1, 8, 8)", body=bytes(65)),
    "long header": npy("", header="(" * 9000),
    "longer header": npy("", header=" " * 60_000),
    "endless header": b"\x93NUMPY\x02\x00\xff\xff\xff\xff" + b" " * 100,
    "code": npy("", header="__import__('os').system('false')"),
    "long double": npy("(1, 8, 8)", "<f16", bytes(1024)),
    "version 3": npy("(1, 8, 8)", body=bytes(64), version=(3, 0)),
    "no header": b"",
    "noise": bytes(range(256)),
}


@pytest.mark.filterwarnings("ignore:Reading `.npy`")
@pytest.mark.parametrize("member", HEADERS.values(), ids=HEADERS)
def test_header_bombs_are_refused_before_memory_is_taken(tmp_path, member):
    path = hostile(tmp_path, member)
    tracemalloc.start()
    with pytest.raises(DataError, match=r"x_train of .*hostile\.npz"):
        Npz(path=path).load()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 8 * 2**20


def test_a_true_zip_bomb_meets_the_memory_guard(tmp_path):
    # 256 MiB of zeros in 256 KiB
    path = tmp_path / "hostile.npz"
    with (
        zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as members,
        members.open("x_train.npy", "w") as stream,
    ):
        stream.write(npy("(4194304, 8, 8)"))
        for _ in range(64):
            stream.write(bytes(2**22))
    with zipfile.ZipFile(path, "a") as members:
        members.writestr("y_train.npy", npy((20,), body=LABELS.tobytes()))
    tracemalloc.start()
    with pytest.raises(DataError, match=r"at most max_gib = 0\.5 GiB as float32, got 1 GiB"):
        Npz(path=str(path), max_gib=0.5).load()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 8 * 2**20


def test_a_directory_of_the_zip_that_lies_about_sizes(tmp_path):
    # header and directory agree on 1 GiB, the member holds 64 bytes
    raw = npy("(16777216, 8, 8)", body=bytes(64))
    path = hostile(tmp_path, raw, zipfile.ZIP_DEFLATED)
    claim = struct.pack("<I", len(raw) - 64 + 2**30)
    data = Path(path).read_bytes()
    Path(path).write_bytes(data.replace(struct.pack("<I", len(raw)), claim))
    tracemalloc.start()
    with pytest.raises(DataError, match=r"expected 1073741824 bytes, got .* packed in x_train"):
        Npz(path=path).load()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 8 * 2**20


def test_two_arrays_of_one_name(tmp_path):
    path = save(tmp_path, **sound())
    with warnings.catch_warnings(), zipfile.ZipFile(path, "a") as members:
        warnings.simplefilter("ignore")
        members.writestr("x_train.npy", npy("(1, 8, 8)", body=bytes(64)))
    with pytest.raises(DataError, match=r"expected one array 'x_train' in .* got two"):
        Npz(path=path).load()


def test_packing_that_numpy_does_not_write(tmp_path):
    path = hostile(tmp_path, npy("(20, 8, 8)", body=bytes(1280)), zipfile.ZIP_LZMA)
    with pytest.raises(DataError, match="stored or deflated"):
        Npz(path=path).load()


@given(seed=st.integers(0, 2**32))
@settings(max_examples=150, deadline=None)
def test_damaged_files_never_end_in_another_error(tmp_path_factory, seed):
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **sound())
    data = bytearray(buffer.getvalue())
    rng = np.random.default_rng(seed)
    for _ in range(int(rng.integers(1, 4))):
        data[int(rng.integers(len(data)))] = int(rng.integers(256))
    data = data[: int(rng.integers(len(data) // 2, len(data) + 1))] if seed % 3 == 0 else data
    path = tmp_path_factory.getbasetemp() / "damaged.npz"
    path.write_bytes(data)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            read = Npz(path=str(path)).load()
        except DataError:
            return
    # zip checks a CRC of each member: what can be read is what was written
    np.testing.assert_array_equal(read.x_train[:, 0], NHW / np.float32(255))


def test_paths(tmp_path, monkeypatch):
    save(tmp_path, **sound())
    monkeypatch.setenv("HOME", str(tmp_path))
    assert Npz(path="~/set.npz").load().classes == 4
    monkeypatch.chdir(tmp_path)
    assert Npz(path="set.npz").load().classes == 4
    with pytest.raises(DataError, match=str(tmp_path / "other.npz")):
        Npz(path="other.npz").load()
    with pytest.raises(DataError, match="nothing readable"):
        Npz(path=".").load()
    with pytest.raises(DataError, match="expected a path"):
        Npz(path="a\0b").load()
    (tmp_path / "text.npz").write_text("x_train")
    with pytest.raises(DataError, match=r"expected an \.npz file, got .*text\.npz"):
        Npz(path="text.npz").load()
    os.mkfifo(tmp_path / "pipe.npz")
    with pytest.raises(DataError, match="nothing readable"):
        Npz(path="pipe.npz").load()


@pytest.mark.parametrize("arrays", [sound(), sound(x_test=None, y_test=None)])
def test_a_look_tells_what_loading_does(tmp_path, arrays):
    data = load(tmp_path, arrays)
    sketch = Npz(path=str(tmp_path / "set.npz")).look()
    assert sketch.shape == data.shape
    assert (sketch.train, sketch.test) == (len(data.y_train), len(data.y_test))
    assert sketch.classes is None  # labels are not read
    with pytest.raises(NotThereError):
        Npz(path=str(tmp_path / "absent.npz")).look()
    with pytest.raises(DataError):
        Npz(path=str(tmp_path)).look()


@pytest.mark.parametrize(
    ("labels", "remedy"),
    [
        (np.eye(3), "argmax(axis=1) are the labels"),
        (np.eye(3, dtype=np.int64), "argmax(axis=1) are the labels"),
        (np.arange(3.0), "store the positions of the classes, from 0, as int64"),
        (np.array(["a", "b", "c"]), "store the positions of the classes, from 0, as int64"),
    ],
    ids=["one-hot floats", "one-hot integers", "floats", "text"],
)
def test_labels_of_another_form_are_refused_with_the_next_step(labels, remedy):
    from learning.data.images import to_labels

    with pytest.raises(DataError, match="expected") as told:
        to_labels(labels, 3, "y_train")
    assert remedy in str(told.value)


def medmnist(**changes):
    arrays = {
        "train_images": NHW,
        "train_labels": LABELS[:, None],
        "val_images": NHW[:3],
        "val_labels": LABELS[:3, None],
        "test_images": NHW[:8],
        "test_labels": LABELS[:8, None],
    }
    return {name: a for name, a in (arrays | changes).items() if a is not None}


def test_medmnists_names_are_read_and_its_validation_rows_told_as_left_out(tmp_path):
    data, keras = load(tmp_path, medmnist()), load(tmp_path, sound())
    np.testing.assert_array_equal(data.x_train, keras.x_train)
    np.testing.assert_array_equal(data.y_test, keras.y_test)
    assert data.notes == ("val_images of the data set was not read: 3 rows for validation",)
    assert keras.notes == ()
    look = Npz(path=str(tmp_path / "set.npz")).look()
    assert tuple(vars(look).values()) == ((1, 6, 5), None, 20, 8)


def test_a_part_of_medmnists_names_is_told_by_them(tmp_path):
    wanted = "arrays train_images and train_labels, and test_images with test_labels or neither"
    with pytest.raises(DataError, match=wanted):
        load(tmp_path, medmnist(test_labels=None))


def test_class_names_are_those_of_the_file_and_count_the_classes(tmp_path):
    names = np.array(["cat", "dog", "emu", "fox", "gnu"])
    data = load(tmp_path, sound(class_names=names))
    assert data.class_names == tuple(names)  # of gnu there are no rows, which is no mistake
    with pytest.raises(DataError, match=r"expected labels in 0\.\.2, got 3"):
        load(tmp_path, sound(class_names=names[:3]))
    with pytest.raises(DataError, match=r"expected 6 names in class_names, .*, got 5"):
        load(tmp_path, sound(class_names=names), classes=6)


@pytest.mark.parametrize(
    "names",
    [
        np.array([["a", "b"], ["c", "d"]]),
        np.array(["a", "b\n", "c", "d"]),
        np.array(["a", "", "c", "d"]),
        np.array(["a", "b" * 201, "c", "d"]),
        np.array([1, 2, 3, 4]),
        np.array([0x7FFFFFFF] * 4, np.uint32).view("<U1"),
    ],
    ids=["shape", "control", "empty", "long", "numbers", "no letters"],
)
def test_other_class_names_are_refused_in_one_line(tmp_path, names):
    with pytest.raises(DataError, match=r"^expected .*text.* got .*") as caught:
        load(tmp_path, sound(class_names=names))
    assert "\n" not in str(caught.value)
