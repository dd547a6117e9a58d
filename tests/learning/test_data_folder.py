"""Image folders, sound and hostile."""

import os
import struct
import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from torchvision.datasets import ImageFolder
from torchvision.transforms.functional import to_tensor

from learning.data.base import DataError
from learning.data.folder import Folder

RNG = np.random.default_rng(1)


def noise(height=6, width=5, channels=3):
    pixels = RNG.integers(0, 256, (height, width, channels), np.uint8)
    return Image.fromarray(pixels[..., 0] if channels == 1 else pixels)


@pytest.fixture
def root(tmp_path):
    """Two classes, three training images and one test image each."""
    for split, count in (("train", 3), ("test", 1)):
        for name in ("zebra", "ant"):
            folder = tmp_path / split / name
            folder.mkdir(parents=True)
            for k in range(count):
                noise().save(folder / f"{k}.png")
    return tmp_path


def load(root, **fields):
    return Folder(path=str(root), **fields).load()


def refused(root, message, **fields):
    with pytest.raises(DataError, match=message) as caught:
        load(root, **fields)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_sound_folder_reads_as_torchvisions_image_folder(root):
    for name, image in {
        "grey.png": noise(channels=1),
        "palette.png": noise().quantize(16),
        "alpha.png": noise(channels=4),
        "bits.png": noise(channels=1).convert("1"),
        "cmyk.jpg": noise().convert("CMYK"),
        "photo.JPEG": noise(),
        "old.bmp": noise(),
        "net.ppm": noise(),
        "scan.tiff": noise(),
        "web.webp": noise(),
    }.items():
        image.save(root / "train" / "zebra" / name)
    data, published = load(root), ImageFolder(root / "train")
    assert data.class_names == tuple(published.classes) == ("ant", "zebra")
    assert data.shape == (3, 6, 5)
    assert len(data.y_train) == len(published) == 16
    for x, y, (image, label) in zip(data.x_train, data.y_train, published, strict=True):
        np.testing.assert_array_equal(x, to_tensor(image).numpy())
        assert y == label
    assert data.y_test.tolist() == [0, 1]


def test_sizes_and_grey(root):
    noise(9, 4).save(root / "test" / "ant" / "odd.png")
    data = load(root, size=7, grayscale=True)
    assert data.shape == (1, 7, 7)
    with Image.open(root / "test" / "ant" / "odd.png") as image:
        expected = image.convert("L").resize((7, 7), Image.Resampling.BILINEAR)
    np.testing.assert_array_equal(data.x_test[1], to_tensor(expected).numpy())
    refused(root, r"height and width \(6, 5\) as in .*0\.png, got \(9, 4\) in .*odd\.png: set size")


def test_folders_in_class_folders_count_and_other_files_do_not(root):
    deep = root / "train" / "ant" / "more" / "still"
    deep.mkdir(parents=True)
    noise().save(deep / "x.png")
    (root / "train" / "ant" / "notes.txt").write_text("ants")
    (root / "train" / "ant" / ".hidden.png").write_text("no image")
    (root / "train" / ".cache").mkdir()
    (root / "train" / "README.md").write_text("insects")
    data = load(root)
    assert np.bincount(data.y_train).tolist() == [4, 3]


def test_exif_orientation_is_followed(root):
    for path in root.rglob("*.png"):
        noise(5, 6).save(path)
    upright = noise(5, 6)
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by 90 degrees clockwise
    upright.rotate(90, expand=True).save(root / "test" / "ant" / "turned.png", exif=exif)
    np.testing.assert_array_equal(load(root).x_test[1], to_tensor(upright).numpy())


def test_no_test_folder(root):
    for path in [*(root / "test").rglob("*.png")]:
        path.unlink()
    for name in ("ant", "zebra"):
        (root / "test" / name).rmdir()
    refused(root, "one folder for each class, got none in .*test")
    (root / "test").rmdir()
    assert load(root).x_test.shape == (0, 3, 6, 5)


def test_layout_errors_name_the_place(root):
    refused(root / "nowhere", "one folder for each class, got none at .*nowhere.train")
    (root / "test" / "wasp").mkdir()
    refused(root, "expected images, got none in .*wasp")
    noise().save(root / "test" / "wasp" / "0.png")
    refused(root, "expected a class of train/, got .*test.wasp")


def test_deep_colour_keeps_its_high_bytes(root):
    pixels = RNG.integers(0, 2**16, (6, 5, 3)).astype(">u2")
    body = b"".join(b"\0" + row.tobytes() for row in pixels)
    (root / "test" / "ant" / "deep.png").write_bytes(png(5, 6, body, depth=16))
    np.testing.assert_array_equal(
        load(root).x_test[1], (pixels >> 8).transpose(2, 0, 1) / np.float32(255)
    )


def chunk(name, body):
    return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))


def png(width, height, body=b"", depth=8, colour=2):
    size = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    data = chunk(b"IDAT", zlib.compress(body))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", size) + data + chunk(b"IEND", b"")


@pytest.mark.parametrize("side", [10_000, 100_000, 2**31 - 1])
@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_huge_declared_images_are_not_decoded(root, side, monkeypatch):
    (root / "train" / "zebra" / "bomb.png").write_bytes(png(side, side, bytes(3 * 2**16)))
    decoded = []
    monkeypatch.setattr("PIL.ImageFile.ImageFile.load", lambda self: decoded.append(self.size))
    monkeypatch.setattr(
        Folder, "_converted", lambda self, image: decoded.append(image.size) or noise()
    )
    message = refused(root, "bomb.png")
    assert "pixels" in message
    assert (side, side) not in decoded


def broken_jpeg(tmp_path):
    noise(64, 64).save(tmp_path / "whole.jpg")
    whole = (tmp_path / "whole.jpg").read_bytes()
    return whole[: len(whole) // 2]


def animated(path):
    frames = [noise(6, 5) for _ in range(3)]
    frames[0].save(path, save_all=True, append_images=frames[1:])


HOSTILE = {
    "cut.jpg": (broken_jpeg, "expected a sound image, got .*truncated"),
    "empty.png": (lambda _: b"", "expected a sound image"),
    "text.png": (lambda _: b"<svg/>" * 99, "expected a sound image"),
    "short.png": (lambda _: png(6, 5, b"\0" * 7), "expected a sound image"),
    "zero.png": (lambda _: png(0, 5), "expected a sound image"),
    "gif.png": (lambda _: b"GIF89a" + bytes(99), "expected a sound image"),
    "fat.png": (lambda _: png(6, 5) + bytes(2**20), r"max_file_mib = 0\.5 MiB, got 1 MiB"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_broken_files_are_named(root, name):
    body, message = HOSTILE[name]
    (root / "train" / "zebra" / name).write_bytes(body(root))
    assert name in refused(root, message, max_file_mib=0.5)


@pytest.mark.parametrize("name", ["a.png", "a.webp", "a.tiff"])
def test_several_frames_are_refused(root, name):
    animated(root / "train" / "zebra" / name)
    assert name in refused(root, "expected a still image, got several frames")


def test_a_photograph_with_a_preview_is_its_first_image(root):
    whole = noise(6, 5)
    whole.save(
        root / "test" / "ant" / "phone.jpg", format="MPO", save_all=True, append_images=[noise()]
    )
    whole.save(root / "test" / "ant" / "plain.jpg")
    data = load(root)
    with Image.open(root / "test" / "ant" / "phone.jpg") as image:
        assert image.format == "MPO"
    np.testing.assert_array_equal(data.x_test[1], data.x_test[2])


@pytest.mark.parametrize("name", ["deep.png", "deep.tiff", "float.tiff"])
def test_more_than_eight_bits_are_refused(root, name):
    pixels = np.arange(30).reshape(6, 5) * 2000
    image = Image.fromarray(pixels.astype(np.float32 if name == "float.tiff" else np.uint16))
    image.save(root / "train" / "zebra" / name)
    assert name in refused(root, "expected 8 bits a channel, got more")


def test_links_are_not_followed(root):
    zebra, bee = root / "train" / "zebra", root / "train" / "bee"
    for link, aim in ((zebra / "loop", root / "train"), (zebra / "x.png", "/etc/hostname")):
        link.symlink_to(aim)
        assert link.name in refused(root, "expected no links")
        link.unlink()
    bee.symlink_to(root / "train" / "ant")
    assert "bee" in refused(root, "expected no links")
    bee.unlink()
    (root / "test").rename(root / "elsewhere")
    (root / "test").symlink_to(root / "elsewhere")
    refused(root, "expected a folder with one folder for each class, got none at .*test")


def test_pipes_and_odd_names_are_refused(root):
    os.mkfifo(root / "train" / "ant" / "pipe.png")
    assert "pipe.png" in refused(root, "expected a regular file")
    (root / "train" / "ant" / "pipe.png").unlink()
    (root / "train" / "a\nb").mkdir()
    refused(root, r"expected a printable name, got 'a\\nb'")


def test_number_and_depth_of_files_are_limited(root):
    assert len(load(root, max_files=6).y_train) == 6
    refused(root, "at most max_files = 5", max_files=5)
    refused(root, "at most max_files = 1 ", max_files=1)
    deep = root / "train" / "ant"
    for _ in range(20):
        deep = deep / "d"
        deep.mkdir()
    refused(root, "folders at most 16 deep")


def test_a_folder_with_too_many_entries_is_not_even_listed(root, monkeypatch):
    for k in range(50):
        (root / "train" / "ant" / f"{k}.txt").touch()
    listed = []
    scan = os.scandir

    class Counted:
        def __init__(self, folder):
            self.entries = scan(folder)

        def __enter__(self):
            return (listed.append(entry) or entry for entry in self.entries)

        def __exit__(self, *_):
            self.entries.close()

    monkeypatch.setattr("learning.data.folder.os.scandir", Counted)
    refused(root, "at most max_files = 10 entries in .*ant", max_files=10)
    assert len(listed) == 2 + 11  # two classes, then one entry more than is allowed


def test_memory_guard(root):
    size = 4 * 8 * 3 * 6 * 5 / 2**30
    assert load(root, max_gib=size).classes == 2
    refused(root, "at most max_gib", max_gib=size * 0.999)


@given(seed=st.integers(0, 2**32))
@settings(max_examples=60, deadline=None)
@pytest.mark.filterwarnings("ignore")
def test_damaged_images_never_end_in_another_error(tmp_path_factory, seed):
    rng = np.random.default_rng(seed)
    root = tmp_path_factory.getbasetemp() / "damaged"
    suffix = ("png", "jpg", "tiff", "webp", "bmp", "ppm")[seed % 6]
    for name in ("a", "b"):
        (root / "train" / name).mkdir(parents=True, exist_ok=True)
    for old in root.rglob("*.*"):
        old.unlink()
    noise().save(root / "train" / "a" / "good.png")
    path = root / "train" / "b" / f"bad.{suffix}"
    noise().save(path)
    data = bytearray(path.read_bytes())
    for _ in range(int(rng.integers(1, 6))):
        data[int(rng.integers(len(data)))] = int(rng.integers(256))
    path.write_bytes(data)
    try:
        read, failure = load(root), ""
    except DataError as error:
        read, failure = None, str(error)
    assert read is not None or path.name in failure
    if read is not None:
        assert read.x_train.shape == (2, 3, 6, 5)
        assert 0 <= read.x_train.min() <= read.x_train.max() <= 1
