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

from learning.data.base import DataError, NotThereError
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
    assert data.notes == (
        "train/: 1 file of .txt left out, as no image's suffix (1 in ant/)",
        "train/: 1 hidden image left out, as the name begins with a dot",
    )


def test_a_folder_of_which_everything_is_read_has_no_notes(root):
    for split in ("train", "test"):
        for name in (".DS_Store", ".gitkeep"):
            (root / split / "ant" / name).write_text("")
    (root / "README.md").write_text("insects")
    (root / ".git").mkdir()
    assert load(root).notes == ()


def test_files_of_other_suffixes_are_counted_by_class(root):
    """Case other-suffix."""
    for k in range(2):
        noise().save(root / "train" / "zebra" / f"{k}.gif")
    noise().save(root / "train" / "ant" / "x.GIF")
    (root / "test" / "ant" / "noend").write_bytes(b"")
    assert load(root).notes == (
        "train/: 3 files of .gif left out, as no image's suffix (1 in ant/, 2 in zebra/)",
        "test/: 1 file of no suffix left out, as no image's suffix (1 in ant/)",
    )


def moved(root, old, new):
    (root / old).rename(root / new)


def test_val_is_the_test_set_where_there_is_no_other(root):
    """Case val-folder: never another split than the user's without a word."""
    before = load(root)
    moved(root, "test", "val")
    data = load(root)
    np.testing.assert_array_equal(data.x_test, before.x_test)
    assert data.y_test.tolist() == before.y_test.tolist()
    (note,) = data.notes
    assert note == "val/ of the data set was taken as the test set, since there is no test/"
    (root / "val" / "ant" / "x.gif").write_bytes(b"")
    assert "val/: 1 file of .gif" in load(root).notes[1]


def test_val_beside_test_and_other_folders_are_told_as_not_read(root):
    """Case val-folder."""
    for name in ("val", "extra"):
        (root / name).mkdir()
    assert load(root).notes == (
        "val/ of the data set was not read: test/ is the test set",
        "of the data set's folder extra/ was not read",
    )


def test_a_val_that_cannot_be_the_test_set_is_told(root):
    """Case val-folder: tiny-imagenet's val/ has one folder, images/."""
    moved(root, "test", "val")
    moved(root, "val/ant", "val/images")
    data = load(root)
    assert len(data.y_test) == 0
    assert data.notes == (
        "val/ of the data set was not read (its folder images/ is no class of train/): the test "
        "set was drawn from train/",
    )
    moved(root, "val", "elsewhere")
    (root / "val").symlink_to(root / "elsewhere")
    assert "they are not followed" in load(root).notes[0]


def test_without_test_and_val_there_is_nothing_to_tell(root):
    moved(root, "test/ant", "train/bee")
    (root / "test" / "zebra" / "0.png").unlink()
    (root / "test" / "zebra").rmdir()
    (root / "test").rmdir()
    data = load(root)
    assert len(data.y_test) == 0
    assert data.notes == ()


@pytest.mark.parametrize(
    ("names", "told"),
    [
        (map(str, range(12)), "2: 10, 3: 11, 4: 2, 5: 3, 6: 4, 7: 5, 8: 6, 9: 7, 10: 8, 11: 9"),
        (["1", "2", "3"], "0: 1, 1: 2, 2: 3"),
        (["0", "2"], "1: 2"),
        # Where the number is the label, or the names are none, nothing is said.
        (["0", "1", "2"], ""),
        ([f"{k:02d}" for k in range(12)], ""),
        (["1", "two"], ""),
    ],
)
def test_folders_that_are_numbers_of_other_labels_are_told(tmp_path, names, told):
    """Case class-order."""
    for name in names:
        (tmp_path / "train" / name).mkdir(parents=True)
        noise().save(tmp_path / "train" / name / "0.png")
    data = load(tmp_path)
    assert list(data.class_names) == sorted(data.class_names)
    assert [note.rpartition("(label: folder): ")[2] for note in data.notes] == [told] * bool(told)


def test_a_look_tells_what_loading_does(root):
    noise(6, 5).save(root / "train" / "ant" / "more.png")
    sketch, data = Folder(path=str(root)).look(), load(root)
    assert (sketch.shape, sketch.classes) == (data.shape, data.classes)
    assert (sketch.train, sketch.test) == (len(data.y_train), len(data.y_test))
    assert Folder(path=str(root), size=9, grayscale=True).look().shape == (1, 9, 9)
    with pytest.raises(NotThereError, match=r"got nothing at .*nowhere"):
        Folder(path=str(root / "nowhere")).look()


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
    """Case damaged-image."""
    body, message = HOSTILE[name]
    (root / "train" / "zebra" / name).write_bytes(body(root))
    assert name in refused(root, message, max_file_mib=0.5)


def test_all_broken_files_are_told_at_once(root):
    """The first of all as well, by whose shape the others are measured; many are counted."""
    for split, name in (("train/ant", "0.png"), ("train/zebra", "1.png"), ("test/ant", "0.png")):
        (root / split / name).write_bytes(b"")
    noise(9, 9).save(root / "train" / "zebra" / "odd.png")
    message = refused(root, "^4 of 9 images cannot be used: expected a sound image, got ")
    for name in ("train/ant/0.png", "train/zebra/1.png", "test/ant/0.png", "odd.png: set size"):
        assert name in message
    for k in range(20):
        (root / "train" / "zebra" / f"more {k}.png").write_bytes(b"")
    message = refused(root, "^24 of 29 images cannot be used: .*; and 19 more$")
    assert message.count(".png: cannot") == 5
    for path in root.rglob("*.png"):
        path.write_bytes(b"")
    refused(root, "^27 of 29 images cannot be used")


def test_a_class_without_images_is_refused_by_its_folder(root):
    """Case empty-class-folder, with the remedy where the files are of a suffix that is not read."""
    for name in ("c", "__MACOSX"):
        (root / "train" / name).mkdir()
        refused(root, f"expected images, got none in .*train/{name}$")
        (root / "train" / name).rmdir()
    (root / "train" / "c").mkdir()
    (root / "train" / "c" / "0.jfif").write_bytes(b"")
    refused(root, r"got none in .*train/c \(files of \.jfif are not read\)$")


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
    """Case symlinked-train, and its kind: a class, a file, either split."""
    zebra, bee = root / "train" / "zebra", root / "train" / "bee"
    for link, aim in ((zebra / "loop", root / "train"), (zebra / "x.png", "/etc/hostname")):
        link.symlink_to(aim)
        assert link.name in refused(root, "expected no links")
        link.unlink()
    bee.symlink_to(root / "train" / "ant")
    assert "bee" in refused(root, "expected no links")
    bee.unlink()
    for split in ("test", "train"):
        (root / split).rename(root / "elsewhere")
        (root / split).symlink_to(root / "elsewhere")
        refused(root, rf"expected no links \(they are not followed\), got .*{split}$")
        (root / split).unlink()
        (root / "elsewhere").rename(root / split)
    (root / "test").rename(root / "elsewhere")
    (root / "test").symlink_to(root / "nowhere")  # a broken link is no missing folder
    refused(root, r"expected no links \(they are not followed\), got .*test$")


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

    monkeypatch.setattr("learning.data.image_folders.os.scandir", Counted)
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


def see_through(root, alpha):
    """Return what a class is read as that holds one half-transparent red image on black."""
    image = Image.new("RGBA", (4, 4), (255, 0, 0, 255))
    image.putpixel((0, 0), (0, 255, 0, alpha))
    for split in ("train", "test"):
        image.save(root / split / "ant" / "0.png")


def test_transparent_pixels_are_told_and_laid_on_what_is_asked(root):
    see_through(root, 0)
    for background, pixel in (("hidden", [0, 1, 0]), ("black", [0, 0, 0]), ("white", [1, 1, 1])):
        data = load(root, size=4, background=background)
        np.testing.assert_array_equal(data.x_train[0, :, 0, 0], pixel)
        np.testing.assert_array_equal(data.x_train[0, :, 1, 1], [1, 0, 0])
        (note,) = data.notes
        assert note.startswith("2 images have transparent pixels: ")
        assert (background in note) or background == "hidden"


def test_an_alpha_channel_that_hides_nothing_is_not_told(root):
    see_through(root, 255)
    assert load(root, size=4, background="white").notes == ()


def test_images_that_are_no_squares_are_stretched_padded_or_cropped(root):
    wide = np.zeros((4, 8, 3), np.uint8)
    wide[:, :2], wide[:, 2:6], wide[:, 6:] = 50, 100, 200
    for split in ("train", "test"):
        Image.fromarray(wide).save(root / split / "ant" / "0.png")
    crop = load(root, size=4, fit="crop").x_train[0, 0]
    np.testing.assert_allclose(crop, 100 / 255, atol=1e-6)
    pad = load(root, size=8, fit="pad").x_train[0, 0]
    assert not pad[:2].any()
    assert not pad[6:].any()
    np.testing.assert_allclose(pad[2:6], wide[..., 0] / 255, atol=1e-6)
    stretched = load(root, size=8).x_train[0, 0]
    np.testing.assert_allclose(stretched[4], wide[0, :, 0] / 255, atol=0.2)
    assert stretched.min() > 0
