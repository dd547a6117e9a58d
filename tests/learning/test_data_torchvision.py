"""torchvision's sets, written in miniature in their own formats."""

import hashlib
import pickle
import struct

import numpy as np
import pytest
import torch
from scipy.io import savemat
from torchvision import datasets
from torchvision.transforms.functional import to_tensor
from torchvision.transforms.v2.functional import resize

from learning.data.base import DataError
from learning.data.torchvision_sets import (
    CIFAR10,
    CIFAR100,
    MNIST,
    STL10,
    SVHN,
    FashionMNIST,
)

RNG = np.random.default_rng(2)


def pixels(*shape):
    return RNG.integers(0, 256, shape, np.uint8)


def md5(path):
    return hashlib.md5(path.read_bytes(), usedforsecurity=False).hexdigest()


def write_idx(path, array):
    dims = b"".join(struct.pack(">I", size) for size in array.shape)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(bytes([0, 0, 8, array.ndim]) + dims + array.tobytes())


def write_mnist(root, name="MNIST", labels=(7, 0, 9)):
    y = np.array(labels, np.uint8)
    for prefix in ("train", "t10k"):
        raw = root / name / "raw"
        write_idx(raw / f"{prefix}-images-idx3-ubyte", pixels(len(y), 28, 28))
        write_idx(raw / f"{prefix}-labels-idx1-ubyte", y)


def write_cifar(root, monkeypatch, cls, key):
    folder = root / cls.base_folder
    folder.mkdir(parents=True)
    for names in (cls.train_list, cls.test_list):
        for name, _ in names:
            batch = {"data": pixels(2, 3072), key: [1, 0]}
            (folder / name).write_bytes(pickle.dumps(batch))
    names = {cls.meta["key"]: [f"thing {k}" for k in range(10)]}
    (folder / cls.meta["filename"]).write_bytes(pickle.dumps(names))
    for which in ("train_list", "test_list"):
        known = [[name, md5(folder / name)] for name, _ in getattr(cls, which)]
        monkeypatch.setattr(cls, which, known)
    monkeypatch.setattr(cls, "meta", cls.meta | {"md5": md5(folder / cls.meta["filename"])})


def write_svhn(root, monkeypatch):
    listed = {}
    for split, (url, name, _) in datasets.SVHN.split_list.items():
        y = np.array([[10], [1], [9]], np.uint8)
        savemat(root / name, {"X": pixels(32, 32, 3, 3), "y": y})
        listed[split] = [url, name, md5(root / name)]
    monkeypatch.setattr(datasets.SVHN, "split_list", listed)


def write_stl(root, monkeypatch):
    folder = root / "stl10_binary"
    folder.mkdir()
    for which in ("train_list", "test_list"):
        known = []
        for name, _ in getattr(datasets.STL10, which):
            labels = np.array([1, 10], np.uint8)
            body = labels if name.endswith("_y.bin") else pixels(2, 3, 96, 96)
            (folder / name).write_bytes(body.tobytes())
            known.append([name, md5(folder / name)])
        monkeypatch.setattr(datasets.STL10, which, known)


def write(kind, root, monkeypatch):
    if kind in (MNIST, FashionMNIST):
        write_mnist(root, kind.published)
    elif kind is CIFAR10:
        write_cifar(root, monkeypatch, datasets.CIFAR10, "labels")
    elif kind is CIFAR100:
        write_cifar(root, monkeypatch, datasets.CIFAR100, "fine_labels")
    elif kind is SVHN:
        write_svhn(root, monkeypatch)
    else:
        write_stl(root, monkeypatch)


KINDS = (MNIST, FashionMNIST, CIFAR10, CIFAR100, SVHN, STL10)


def published(kind, root, split):
    cls = getattr(datasets, kind.published)
    return (
        cls(str(root), split=split) if kind in (SVHN, STL10) else cls(str(root), split == "train")
    )


@pytest.mark.parametrize("kind", KINDS)
def test_rows_are_those_of_torchvision(kind, tmp_path, monkeypatch):
    write(kind, tmp_path, monkeypatch)
    data = kind(root=str(tmp_path)).load()
    for split, x, y in (
        ("train", data.x_train, data.y_train),
        ("test", data.x_test, data.y_test),
    ):
        rows = published(kind, tmp_path, split)
        assert len(rows) == len(x) == len(y) > 0
        assert (x.dtype, y.dtype) == (np.float32, np.int64)
        for k, (image, label) in enumerate(rows):
            np.testing.assert_array_equal(x[k], to_tensor(image).numpy())
            assert y[k] == label
    assert data.classes == 10
    assert data.shape[0] == (1 if "MNIST" in kind.published else 3)


def test_class_names(tmp_path, monkeypatch):
    for kind in KINDS:
        write(kind, tmp_path, monkeypatch)
    names = [kind(root=str(tmp_path)).load().class_names[3] for kind in KINDS]
    assert names == ["3", "Dress", "thing 3", "thing 3", "3", "cat"]


def test_the_extra_rows_of_svhn(tmp_path, monkeypatch):
    write_svhn(tmp_path, monkeypatch)
    plain, more = (SVHN(root=str(tmp_path), extra=e).load() for e in (False, True))
    assert len(more.y_train) == 6
    np.testing.assert_array_equal(more.x_train[:3], plain.x_train)
    np.testing.assert_array_equal(more.y_train, [0, 1, 9] * 2)
    np.testing.assert_array_equal(more.x_test, plain.x_test)


@pytest.mark.parametrize("size", [16, 48])
def test_resized_as_by_torchvision(size, tmp_path, monkeypatch):
    write_svhn(tmp_path, monkeypatch)
    whole = SVHN(root=str(tmp_path)).load()
    small = SVHN(root=str(tmp_path), size=size).load()
    assert small.shape == (3, size, size)
    expected = resize(torch.from_numpy(whole.x_train).double(), [size, size], antialias=True)
    # positions of 0..48 in float32 are good to 3e-6
    np.testing.assert_allclose(small.x_train, expected.numpy(), atol=5e-6)
    assert 0 <= small.x_train.min() <= small.x_train.max() <= 1


def test_memory_guard_counts_the_resized_images(tmp_path, monkeypatch):
    write_svhn(tmp_path, monkeypatch)
    size = 4 * 6 * 3 * 16 * 16 / 2**30
    assert SVHN(root=str(tmp_path), size=16, max_gib=size).load().classes == 10
    with pytest.raises(DataError, match=r"at most max_gib = .* in SVHN"):
        SVHN(root=str(tmp_path), max_gib=size).load()


@pytest.mark.parametrize("kind", KINDS)
def test_missing_files_say_where_they_were_looked_for(kind, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DataError) as caught:
        kind(root="sets").load()
    message = str(caught.value)
    assert message.startswith(f"expected the files of {kind.published} in {tmp_path / 'sets'}, got")
    assert "not found" in message
    assert "\n" not in message


@pytest.mark.parametrize("kind", [CIFAR10, CIFAR100, SVHN, STL10])
def test_files_that_are_not_the_published_ones_are_refused_unread(kind, tmp_path, monkeypatch):
    with monkeypatch.context() as patched:
        write(kind, tmp_path, patched)
    # with the true checksums again, these files are strangers: nothing may unpickle them
    monkeypatch.setattr(pickle, "load", lambda *_, **__: pytest.fail("unpickled"))
    with pytest.raises(DataError, match="not found or corrupted"):
        kind(root=str(tmp_path)).load()


def test_damaged_mnist(tmp_path):
    write_mnist(tmp_path)
    raw = tmp_path / "MNIST" / "raw"
    images = raw / "train-images-idx3-ubyte"
    images.write_bytes(images.read_bytes()[:-100])
    with pytest.raises(DataError, match="expected the files of MNIST in"):
        MNIST(root=str(tmp_path)).load()
    write_mnist(tmp_path, labels=(7, 0, 10))
    with pytest.raises(DataError, match=r"labels in 0\.\.9, got 10 in row 2 of MNIST \(train\)"):
        MNIST(root=str(tmp_path)).load()
    write_mnist(tmp_path)
    write_idx(raw / "t10k-labels-idx1-ubyte", np.zeros(4, np.uint8))
    with pytest.raises(DataError, match=r"expected 3 labels, .* got \(4,\) in MNIST \(test\)"):
        MNIST(root=str(tmp_path)).load()


def test_old_pickled_files_are_not_read(tmp_path):
    write_mnist(tmp_path)
    old = tmp_path / "MNIST" / "processed"
    old.mkdir()
    for name in ("training.pt", "test.pt"):
        torch.save((torch.zeros(1, 28, 28), torch.zeros(1)), old / name)
    with pytest.raises(DataError, match=r"expected no old-format files, got .*processed"):
        MNIST(root=str(tmp_path)).load()


def test_a_failed_download_is_one_line(tmp_path, monkeypatch):
    def fail(self):
        raise RuntimeError("Error downloading x:\nTried a, got:\n<urlopen error b>")

    monkeypatch.setattr(datasets.MNIST, "download", fail)
    with pytest.raises(DataError, match="Error downloading x: Tried a, got: <urlopen error b>"):
        MNIST(root=str(tmp_path), download=True).load()


def test_download_is_torchvisions_own(tmp_path, monkeypatch):
    monkeypatch.setattr(datasets.MNIST, "download", lambda self: write_mnist(tmp_path))
    with pytest.raises(DataError, match="not found"):
        MNIST(root=str(tmp_path)).load()
    assert len(MNIST(root=str(tmp_path), download=True).load().y_train) == 3
