"""Known data sets, as tiny trees in the layouts that their authors publish."""

import pickle
import struct
import subprocess
import sys

import numpy as np
import pytest
from pictures import chw, database, encoded, folder, names, noise, zipped

from progan.config.load import presets
from progan.data.decode import BadImage, Square, TooSmall
from progan.data.sources import demo
from progan.data.sources.find import NAMED, find
from progan.runtime.errors import UserError
from progan.training.request import resolve

SIXTEEN = Square(16)


@pytest.fixture(autouse=True)
def root(tmp_path, monkeypatch):
    """No test may look at the user's data."""
    monkeypatch.setenv("PROGAN_DATA", str(tmp_path / "root"))
    return tmp_path / "root"


def test_demo():
    """Reference: what `demo.draw` gives; luma for one channel."""
    source = find("demo", labels=True)
    assert source.labels.names == tuple(demo.CLASSES) and len(source) == demo.SIZE
    assert (source.labels.values == demo.labels(0, range(demo.SIZE))).all()
    drawn = demo.draw(0, [5, 9], 32)
    assert (np.stack(source.read_batch([5, 9], Square(32))) == drawn).all()
    luma = np.tensordot([0.299, 0.587, 0.114], drawn[1].astype(float), 1)
    assert abs(source.read(9, Square(32, 1))[0] - luma).max() <= 1


# --- faces and scenes ---


def celeba_files():
    files = {f"img_align_celeba/00000{i}.jpg": noise((178, 218), seed=i) for i in (1, 2)}
    return files | {"img_align_celeba/000003.jpg": noise((200, 218))}


@pytest.mark.parametrize("layout", ["folder", "zip"])
def test_celeba(root, layout):
    """Reference: rows 57 to 185 and columns 25 to 153 of the aligned 178x218 image."""
    files = celeba_files() | {"img_align_celeba/000004.jpg": b"junk"}
    if layout == "folder":
        folder(root / "celeba", files)
    else:
        zipped(root / "celeba" / "img_align_celeba.zip", files)
    source = find("celeba")
    assert len(source) == 4 and source.name == "celeba"
    expected = chw(noise((178, 218), seed=2))[:, 121 - 64 : 121 + 64, 89 - 64 : 89 + 64]
    assert (source.read(1, Square(128)) == expected).all()
    with pytest.raises(BadImage, match="200x218 is not CelebA's 178x218"):
        source.read(2, Square(128))
    with pytest.raises(BadImage, match="^not an image, or of a kind that is not supported$"):
        source.read(3, Square(128))
    with pytest.raises(TooSmall, match="128x128 is too small for resolution 256"):
        source.read(1, Square(256))


ATTRIBUTES = [f"Attribute_{k}" for k in range(40)]


def attribute_list(values, suffix="jpg"):
    """CelebA's text: a count, the names, and a line with two blanks before a 1."""
    lines = [f"{i:06}.{suffix} " + " ".join(f"{v:2}" for v in row) for i, row in values.items()]
    return "\n".join([str(len(values)), " ".join(ATTRIBUTES) + " ", *lines]) + "\n"


@pytest.mark.parametrize("place", ["", "Anno/"])
def test_attributes_of_celeba(root, place):
    """Reference: the values written, -1 as 0; they go with the names, whatever their order."""
    values = {i: np.random.default_rng(i).choice([-1, 1], 40) for i in (4, 3, 2, 1)}
    files = celeba_files() | {f"{place}list_attr_celeba.txt": attribute_list(values)}
    folder(root / "celeba", files)
    source = find("celeba", labels=True)
    assert source.labels.names == tuple(ATTRIBUTES) and source.labels.values.dtype == np.uint8
    expected = np.stack([values[i] for i in (1, 2, 3)]) == 1
    assert (source.labels.values == expected).all() and source.labels.values.shape == (3, 40)
    assert source.key != find("celeba").key
    first = find("celeba", labels=True, limit=1)
    assert (first.labels.values == expected[:1]).all()


BAD_LISTS = {
    "is no list of attributes: fetch it again": "",
    "is no list of attributes": "3\n" + " ".join(ATTRIBUTES) + "\n",
    "line 4 has 39 columns, and the header has 41": "2: 38",
    "1 of 3 images have no line in it .000003.jpg": "3",
    "1 of 3 images have attributes other than -1 .*000002.jpg is 0": "2: 0",
}


@pytest.mark.parametrize("message", BAD_LISTS)
def test_bad_lists_of_attributes(root, message):
    """Missing, empty, cut off, of other values: what is wrong in which file."""
    folder(root / "celeba", celeba_files())
    with pytest.raises(UserError, match="list_attr_celeba.txt is missing.*get it from https://mm"):
        find("celeba", labels=True)
    values = {i: np.where(np.arange(40) < 20, 1, -1) for i in (1, 2, 3)}
    text = BAD_LISTS[message]
    if text == "2: 38":
        values[2] = values[2][:38]
    elif text == "2: 0":
        values[2] = values[2].clip(0, 1)
    elif text == "3":
        del values[3]
    if text in ("2: 38", "2: 0", "3"):
        text = attribute_list(values)
    (root / "celeba" / "list_attr_celeba.txt").write_text(text)
    with pytest.raises(UserError, match=f"data.labels: .*list_attr_celeba.txt.*{message}"):
        find("celeba", labels=True)


FACES = {
    "celeba-hq": ["celeba-hq", "celeba_hq", "CelebAMask-HQ/CelebA-HQ-img"],
    "ffhq": ["ffhq/images1024x1024", "ffhq", "ffhq-dataset/images1024x1024"],
}


@pytest.mark.parametrize(("name", "place"), [(n, p) for n, places in FACES.items() for p in places])
def test_faces(root, name, place):
    """Reference: the images put into each of the places; folders of thousands are no classes."""
    files = {f"{k}000/{k}.png": noise((16, 16), seed=k) for k in range(3)}
    folder(root / place, files)
    source = find(name)
    assert len(source) == 3 and source.name == name
    assert (source.read(2, SIXTEEN) == chw(noise((16, 16), seed=2))).all()
    with pytest.raises(UserError, match="data.labels"):
        find(name, labels=True)
    table = "file,kind\n" + "".join(f"{file},{k % 2}\n" for k, file in enumerate(files))
    folder(root / place, {"labels.csv": table})
    assert find(name, labels=True).labels.values.tolist() == [0, 1, 0]


def test_faces_in_a_zip(root):
    zipped(root / "ffhq.zip", {f"{k}.png": noise((16, 16)) for k in range(3)})
    assert len(find("ffhq")) == 3


def test_attributes_of_celebamask_hq(root):
    """Reference: its list, written as CelebA's is."""
    values = {i: np.where(np.arange(40) % (i + 2), 1, -1) for i in range(2)}
    files = {f"CelebA-HQ-img/{i:06}.jpg": noise((16, 16)) for i in values}
    files["CelebAMask-HQ-attribute-anno.txt"] = attribute_list(values)
    folder(root / "CelebAMask-HQ", files)
    source = find("celeba-hq", labels=True)
    assert (
        source.labels.values.shape == (2, 40)
        and (source.labels.values[1] == (values[1] == 1)).all()
    )


def test_lsun(root):
    """Reference: what was put in. Categories follow each other by name; they are the classes."""
    for k, name in enumerate(["tower_train", "church_outdoor_train", "church_outdoor_val"]):
        images = {f"{k}{i}": encoded(noise((16, 16), seed=i + k), "WEBP") for i in range(2 + k)}
        database(root / "lsun" / f"{name}_lmdb", images)
    source = find("lsun", labels=True)
    assert source.labels.names == ("church_outdoor", "tower") and source.name == "lsun"
    assert source.labels.values.tolist() == [0, 0, 0, 1, 1]
    assert names(source) == ["10", "11", "12", "00", "01"]
    assert (source.read(4, SIXTEEN) == source.read(0, SIXTEEN)).all()  # both of seed 1
    with pytest.raises(UserError, match="first 3 images of lsun have none of class tower"):
        find("lsun", labels=True, limit=3)


# --- read by torchvision ---


def write_idx(raw, images, labels):
    raw.mkdir(parents=True)
    for part in ("train", "t10k"):
        head = struct.pack(">IIII", 0x803, *images.shape)
        (raw / f"{part}-images-idx3-ubyte").write_bytes(head + images.tobytes())
        head = struct.pack(">II", 0x801, len(labels))
        (raw / f"{part}-labels-idx1-ubyte").write_bytes(head + labels.tobytes())


@pytest.mark.parametrize(
    ("name", "place", "first"),
    [("mnist", "MNIST", "0 - zero"), ("fashion-mnist", "FashionMNIST", "T-shirt/top")],
)
def test_mnist(root, name, place, first):
    """Reference: idx files written here; 28x28 inside a border of two black pixels."""
    images = np.random.default_rng(0).integers(0, 256, (6, 28, 28), np.uint8)
    labels = np.array([3, 1, 4, 1, 5, 9], np.uint8)
    write_idx(root / place / "raw", images, labels)
    source = find(name, labels=True)
    assert source.labels.values.tolist() == labels.tolist() and len(source.labels.names) == 10
    assert source.labels.names[0] == first and source.name == name
    x = source.read(2, Square(32, 1))
    assert (x[0, 2:30, 2:30] == images[2]).all() and x.sum() == images[2].sum()
    assert (source.read(2, Square(32)) == x).all()
    with pytest.raises(TooSmall, match="32x32 is too small for resolution 64"):
        source.read(0, Square(64))
    assert find(name).labels is None and find(name).key != source.key
    (root / place / "raw" / "train-images-idx3-ubyte").write_bytes(b"short")
    with pytest.raises(UserError, match=f"^{name}: not found in .*, or damaged"):
        find(name)


@pytest.fixture
def any_checksum(monkeypatch):
    """Makes torchvision accept files made here."""
    for module in ("cifar", "svhn"):
        monkeypatch.setattr(f"torchvision.datasets.{module}.check_integrity", lambda *_: True)


CIFAR = {
    "cifar10": ("cifar-10-batches-py", [f"data_batch_{k + 1}" for k in range(5)], "labels", 10),
    "cifar100": ("cifar-100-python", ["train"], "fine_labels", 100),
}


@pytest.mark.parametrize("name", CIFAR)
def test_cifar(root, any_checksum, name):
    """Reference: small batches in the format of the authors, [N, 3 * 32 * 32] uint8."""
    place, files, key, count = CIFAR[name]
    base = root / place
    base.mkdir(parents=True)
    data = np.random.default_rng(0).integers(0, 256, (len(files), 2, 3, 32, 32), np.uint8)
    for k, file in enumerate(files):
        batch = {"data": data[k].reshape(2, -1), key: [k, 9 - k]}
        (base / file).write_bytes(pickle.dumps(batch))
    classes = [f"class {k}" for k in range(count)]
    table = {"label_names": classes, "fine_label_names": classes}
    (base / ("meta" if count == 100 else "batches.meta")).write_bytes(pickle.dumps(table))
    source = find(name, labels=True)
    assert source.labels.names == tuple(classes) and source.name == name
    expected = [label for k in range(len(files)) for label in (k, 9 - k)]
    assert source.labels.values.dtype == np.int64 and source.labels.values.tolist() == expected
    read = np.stack(source.read_batch(range(len(source)), Square(32)))
    assert (read == data.reshape(-1, 3, 32, 32)).all()


class Trap:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (self.path, "w")


@pytest.mark.parametrize("name", CIFAR)
def test_a_pickle_of_another_checksum_is_not_opened(root, name):
    """Reference: files of CIFAR's names that would write `sprung` if they were unpickled."""
    place, files, _, _ = CIFAR[name]
    trap = pickle.dumps(Trap(str(root / "sprung")))
    folder(
        root / place, dict.fromkeys([*files, "batches.meta", "meta", "test_batch", "test"], trap)
    )
    with pytest.raises(UserError, match="Dataset not found or corrupted"):
        find(name, labels=True)
    assert not (root / "sprung").exists()


@pytest.mark.parametrize("place", ["svhn", "."])
def test_svhn(root, any_checksum, place):
    """Reference: a .mat as the authors', X [32, 32, 3, N], y [N, 1] with 10 for the digit 0."""
    import scipy.io

    data = np.random.default_rng(0).integers(0, 256, (32, 32, 3, 4), np.uint8)
    (root / place).mkdir(parents=True, exist_ok=True)
    labels = np.array([[1], [10], [9], [2]], np.uint8)
    scipy.io.savemat(root / place / "train_32x32.mat", {"X": data, "y": labels})
    source = find("svhn", labels=True)
    assert source.labels.values.tolist() == [1, 0, 9, 2] and source.labels.names == tuple(
        "0123456789"
    )
    assert (source.read(3, Square(32)) == data[..., 3].transpose(2, 0, 1)).all()


def test_svhn_without_scipy(monkeypatch):
    monkeypatch.setitem(sys.modules, "scipy", None)
    monkeypatch.setitem(sys.modules, "scipy.io", None)
    with pytest.raises(UserError, match=r"read with scipy: pip install '\.\[svhn\]'"):
        find("svhn")


MANUAL = {
    "celeba": "get img_align_celeba.zip from https://mmlab.*--download",
    "celeba-hq": "looked for .*celeba-hq, .*celeba_hq, .*CelebA-HQ-img; make it from CelebA",
    "ffhq": "looked for .*images1024x1024.*; get images1024x1024",
    "lsun": "looked for .*lsun/CATEGORY_train_lmdb; unpack a category's zip",
    "cifar10": "unpack cifar-10-python.tar.gz .*cifar-10-batches-py.*--download",
    "cifar100": "unpack cifar-100-python.tar.gz .*cifar-100-python.*--download",
    "mnist": "unpack its four idx files into .*MNIST/raw.*--download",
    "fashion-mnist": "unpack its four idx files into .*FashionMNIST/raw.*--download",
    "svhn": "get train_32x32.mat .*--download",
}


@pytest.mark.parametrize("name", [name for name in NAMED if name != "demo"])
def test_absent_data_sets_say_what_to_do(name):
    """The places looked at, the manual way, and --download where it can help."""
    with pytest.raises(UserError, match=f"^{name}: not found(.|\n)*{MANUAL[name]}") as caught:
        find(name)
    assert ("--download" in str(caught.value)) == NAMED[name].downloads
    assert "$PROGAN_DATA" in str(caught.value) and "download=True" not in str(caught.value)


@pytest.mark.parametrize("name", [name for name in NAMED if NAMED[name].downloads])
def test_failed_download(monkeypatch, name):
    """Whatever torchvision raises becomes a message with the reason and the manual way."""
    import torchvision

    def fail(root, download, **options):
        assert download
        raise RuntimeError("quota exceeded")

    for kind in ("CelebA", "CIFAR10", "CIFAR100", "MNIST", "FashionMNIST", "SVHN"):
        monkeypatch.setattr(torchvision.datasets, kind, fail)
    expected = rf"^{name}: the download failed \(RuntimeError: quota exceeded\); (get|unpack)"
    with pytest.raises(UserError, match=expected):
        find(name, download=True)


# --- the table ---


@pytest.mark.parametrize("name", NAMED)
def test_table(root, name):
    """Every set has a preset that loads, which it takes; one line a text; places below the root."""
    known = NAMED[name]
    assert known.preset in presets()
    config = resolve(name, None, [])
    assert config.data.source == name
    assert config.network == resolve(None, known.preset, []).network
    assert known.needs and known.labels and "\n" not in known.needs + known.labels
    assert all(path.is_relative_to(root) for path in known.places(root))
    assert known.places(root) or name == "demo"


def test_finding_starts_without_torch():
    """Reference: a new interpreter's modules. Worker processes import what sources are made of."""
    code = "import sys, progan.data.sources.find; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
