"""`progan data`: its reports, what it prepares, and every mistake with its message."""

import io
import json
import os
import signal
import subprocess
import sys
import tarfile
import time
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from conftest import command
from pictures import encoded, folder, noise
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from progan.cli.data import has_gpu
from progan.cli.main import main
from progan.config.settings import DataConfig
from progan.data.decode import box_levels
from progan.data.info.advice import commands
from progan.data.info.copies import nearly_equal
from progan.data.info.resolution import choose
from progan.data.info.survey import survey, survey_headers
from progan.data.opening import find_data, open_data, resolution_of
from progan.data.pyramid.format import Pyramid
from progan.data.sources.find import NAMED, find
from progan.runtime.errors import UserError
from progan.runtime.pictures import HATCHED
from progan.training.request import resolve


def run(*arguments: object, code: int = 0) -> str:
    """Output of `progan data` with these arguments; its exit code must be `code`."""
    words = ["data", *map(str, arguments)]
    result = CliRunner().invoke(main, words, catch_exceptions=False)
    assert result.exit_code == code, result.output
    return result.output


def flat(text: str) -> str:
    """Remove the line breaks of wrapping."""
    return " ".join(text.split())


def refused(*arguments: object) -> str:
    return flat(run(*arguments, code=2))


@pytest.fixture
def here(tmp_path, monkeypatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("PROGAN_DATA", raising=False)
    return tmp_path


def picture(width: int, height: int, mode: str = "RGB", seed: int = 0) -> Image.Image:
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)
    return Image.fromarray(pixels).convert(mode)


def fill(folder: Path, count: int, size: tuple[int, int] = (16, 16), mode: str = "RGB") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for i in range(count):
        picture(*size, mode, i).save(folder / f"{i:03d}.png")
    return folder


@pytest.fixture
def odd(here) -> Path:
    """Eight good images of many kinds in two class folders, and four that cannot be used."""
    cats, dogs = here / "odd" / "cats", here / "odd" / "dogs"
    for where in (cats, dogs):
        where.mkdir(parents=True)
    picture(20, 16).save(cats / "a.jpg")
    picture(16, 40, "L").save(cats / "b.png")
    picture(16, 16, "RGBA").save(cats / "c.png")
    picture(16, 16, "P").save(cats / "d.gif")
    picture(16, 16, "CMYK").save(cats / "e.jpg")
    Image.fromarray(np.full((16, 16), 40000, np.uint16)).save(dogs / "f.png")
    exif = Image.Exif()
    exif[0x0112] = 6
    picture(64, 16).save(dogs / "g.jpg", exif=exif)
    picture(16, 16).save(dogs / "h.webp")
    (dogs / "empty.png").write_bytes(b"")
    (dogs / "text.png").write_text("no image")
    (dogs / "cut.jpg").write_bytes((cats / "a.jpg").read_bytes()[:-200])
    (dogs / "gone.png").symlink_to("/nowhere/at/all.png")
    return here / "odd"


# --- info ---


def test_info_counts_what_was_put_there(odd):
    """Reference: the files as they were made; a rotated image counts upright."""
    text = run("info", odd)
    said = flat(text)
    assert f"{odd}: 12 images" in text
    assert "smallest 16x16, largest 16x64" in said
    assert "3 (37.5 %) are not square" in said
    assert "16x16 is the largest resolution that all have" in said
    for kind in ("JPEG RGB (2)", "PNG L (1)", "PNG RGBA (1)", "GIF", "JPEG CMYK (1)", "PNG I"):
        assert kind in said, kind
    assert "EXIF 1 are turned" in said
    assert "bad 4, which are left out: dogs/cut.jpg: image file is truncated" in said
    assert "dogs/empty.png: empty file" in said and "dogs/gone.png: No such file" in said
    assert "labels 2 classes from the 1st level of folders, of 5 … 7 images cats 5 41.7 %" in said
    assert "progan train --data" in said and "-o data.labels=true" in said
    assert max(map(len, text.splitlines())) <= 100 + len(str(odd)), "fits 100 columns"


def test_survey_is_the_same_for_any_number_of_workers(odd):
    """Reference: this process alone, without a worker."""
    source = find(str(odd), labels=True)
    assert survey(source, 0) == survey(source, 2)
    headers = survey_headers(source)
    assert headers.bad.keys() < survey(source, 0).bad.keys(), "a cut file has a good header"


def test_disk_use_is_what_preparing_takes(here):
    """Reference: the arrays that prepare then writes, less their headers."""
    fill(here / "photos", 5)
    said = flat(run("info", "photos"))
    run("prepare", "photos", "made")
    for r in (4, 8, 16):
        size = (here / f"made/{r:04d}.npy").stat().st_size - 128
        assert size == 5 * 3 * r * r
        shown = f"{size} B" if size < 1000 else f"{size / 1000:.1f} kB"
        assert f"{r}x{r} {shown}" in said


@pytest.mark.parametrize(
    ("sides", "expected"),
    [
        ([16] * 99 + [15], 16),
        ([16] * 98 + [15] * 2, 8),
        ([16] * 54 + [1], 16),
        ([16] * 2 + [1], 16),
        ([64, 16], 16),
        ([3] * 10, None),
        ([5000], 1024),
        ([], None),
    ],
)
def test_largest_resolution(sides, expected):
    """Reference: all but one in a hundred, and always but one, have it, counted by hand."""
    sizes = {i: (side, side + 7) for i, side in enumerate(sides)}
    choice = choose(sizes, len(sides), "crop", 100)
    assert (choice and choice.resolution) == expected
    if choice:
        assert choice.too_small == [i for i, side in enumerate(sides) if side < expected]


def test_images_that_may_be_left_out():
    """Reference: by hand. `max_bad` is for all images, of which only some were looked at."""
    sizes = dict(enumerate([(64, 64)] * 999 + [(8, 8)]))
    assert choose(sizes, 1000, "crop", 1).resolution == 64
    assert choose(sizes, 1000, "crop", 0).resolution == 8
    assert choose(sizes, 10**5, "crop", 100).resolution == 64
    assert choose(sizes, 10**6, "crop", 100).resolution == 8, "one stands for a thousand"


def test_largest_resolution_of_each_fit():
    """Reference: the side of the square that is taken of 100x40, by hand."""
    sizes = {0: (100, 40)}
    assert choose(sizes, 1, "crop", 100).resolution == 32
    assert choose(sizes, 1, "pad", 100).resolution == 64
    assert choose(sizes, 1, (0, 0, 20), 100).resolution == 16
    assert choose(sizes, 1, (90, 0, 20), 100) is None, "the image does not hold it"


def test_resolution_of_data(here):
    """Reference: the rule, of images of 32x40, squares of 20, and a prepared folder."""
    fill(here / "photos", 6, (32, 40))
    data = DataConfig(source="photos")

    def of(data):
        return resolution_of(find_data(data), data)

    assert of(data) == 32
    assert of(data.model_copy(update={"fit": [0, 0, 20]})) == 16
    run("prepare", "photos", "made", "--max-resolution", 8)
    assert of(data.model_copy(update={"source": "made"})) == 8
    fill(here / "dots", 3, (2, 2))
    with pytest.raises(UserError, match="dots: too many images are smaller than 4x4"):
        of(data.model_copy(update={"source": "dots"}))


def test_info_without_labels_says_why(here):
    """Reference: a flat folder has no classes; with --labels that is an error."""
    fill(here / "photos", 3)
    assert "labels none (3 of 3 images of photos lie in no class folder" in flat(
        run("info", "photos")
    )
    assert "lie in no class folder" in refused("info", "photos", "--labels")


def test_a_lone_class_folder_is_named(here):
    """Reference: the folder that all images lie in."""
    fill(here / "photos" / "cats", 3)
    message = refused("info", "photos", "--labels")
    assert "all images of photos lie in one folder, cats; lay them out as" in flat(message)


def test_the_level_of_class_folders_is_said_and_can_be_chosen(here):
    """Reference: the folders; info, prepare and train say the same, and take the same classes."""
    for part in ("train/cats", "train/dogs", "val/dogs"):
        fill(here / "photos" / part, 2)
    said = flat(run("info", "photos"))
    assert "labels 2 classes from the 2nd level of folders, of 2 … 4 images train and val " in said
    line = "classes from the 2nd level of folders: cats, dogs\ntrain and val are taken for parts of"
    assert line in run("prepare", "photos", "made", "--labels")
    lines: list[str] = []
    config = resolve("photos", None, ["data.labels=true", "network.resolution=16"])
    with closing(open_data(config, say=lines.append)) as data:
        assert line in "\n".join(lines) and data.labels.names == ("cats", "dogs")
    assert "cats, dogs" not in run("prepare", "photos", "other", "--label-level", 1)
    assert Pyramid.open(here / "other").labels.names == ("train", "val")
    said = flat(run("info", "photos", "--label-level", 1))
    assert "1st level" in said and "-o data.labels=true -o data.label_level=1" in said
    message = refused("info", "photos", "--labels", "--label-level", 3)
    assert "lie in no folder of the 3rd level" in flat(message)


def test_info_of_grey_images_hints_at_one_channel(here):
    """Reference: files of mode L only; what prepare makes of them without an option: 3 channels."""
    fill(here / "grey", 3, mode="L")
    said = flat(run("info", "grey"))
    assert "prepared in colour at 16x16" in said and "together 3.0 kB" in said
    assert "all images are grey: a third of it with prepare --channels 1" in said
    assert "-o network.channels=1" in said
    run("prepare", "grey", "made")
    assert Pyramid.open("made").channels == 3
    fill(here / "colours", 1)
    assert "all images are grey" not in flat(run("info", "colours"))


@pytest.mark.parametrize("small", [(10, 200), (1, 1)])
def test_one_odd_image_decides_nothing(here, small):
    """Reference: 20 images of 40x50 have 32x32; info and prepare say so, and name the other."""
    fill(here / "photos", 20, (40, 50))
    picture(*small).save(here / "photos" / "odd.png")
    named = f"1 smaller will be left out (odd.png, {small[0]}x{small[1]})"
    told = flat(run("info", "photos"))
    assert f"32x32 is the largest resolution that all but 1 have {named}" in told
    assert "prepared in colour at 32x32: 4x4 1.0 kB" in told
    said = run("prepare", "photos", "made", "--workers", 0)
    assert "32x32 is the largest resolution that nearly all images have (21 of 21" in said
    assert named in said and "is prepared: 20 images" in said


def test_info_tells_kind_and_range_of_numbers(here):
    """Reference: the arrays themselves, and a file of 16 bits."""
    x = np.full((3, 16, 16), 7, np.uint16)
    x[1, 2, 3] = 4095
    np.save("scans.npy", x)
    assert "kinds uint16 L (3) values 7 … 4,095, of 0 … 65,535" in flat(run("info", "scans.npy"))
    np.save("masks.npy", np.eye(16, dtype=np.uint8)[None])
    assert "kinds uint8 L (1) values 0 … 1, of 0 … 255" in flat(run("info", "masks.npy"))
    (here / "deep").mkdir()
    Image.fromarray(x[1]).save("deep/a.png")
    assert "values 7 … 4,095, of 0 … 65,535" in flat(run("info", "deep"))
    fill(here / "photos", 1)
    assert "values" not in run("info", "photos")


def test_info_finds_copies_in_other_formats(here):
    """Reference: a JPEG's pixels as PNG, turned, and upright by EXIF. A JPEG at 4x4 is not bit for
    bit what its pixels are there."""
    picture = noise((64, 64))
    jpeg = encoded(picture, "JPEG")
    pixels = Image.open(io.BytesIO(jpeg)).convert("RGB")
    exif = Image.Exif()
    exif[0x0112] = 6
    turned = encoded(pixels.transpose(Image.Transpose.ROTATE_90), exif=exif)
    files = {"a.jpg": jpeg, "b.png": pixels, "c.png": turned, "d.png": noise((64, 64), seed=1)}
    folder(here / "mixed", files)
    said = " ".join(run("info", "mixed").split())
    assert "2 of 4 images are exact copies of others; a.jpg is there 3 times" in said


def test_only_images_that_may_be_copies_are_read_again():
    """Reference: by hand, at 4x4: a JPEG and another image of its size, less than 12 levels
    apart in the mean, and 24 at most in each value."""
    same, near, far = (bytes([level] * 48) for level in (100, 111, 113))
    odd = bytes([*[100] * 46, 75, 125])
    small, jpeg = [same, near, far, same, b"", odd, near], [1, 0, 0, 1, 0, 0, 0]
    sizes = [(64, 64)] * 6 + [(64, 65)]
    assert nearly_equal(sizes, small, jpeg) == {0, 1, 3}


def test_info_counts_images_that_a_model_has_drawn(here):
    """Reference: IPTC's digital source type in XMP, as sample files have it, not as photos."""
    term = "http://cv.iptc.org/newscodes/digitalsourcetype/"
    files = {
        f"{k}.{kind}": encoded(noise((16, 16), seed=k), kind, xmp=(term + what).encode())
        for k, (kind, what) in enumerate(
            (
                ("jpeg", "trainedAlgorithmicMedia"),
                ("webp", "trainedAlgorithmicMedia"),
                ("jpeg", "digitalCapture"),
                ("jpeg", "compositeWithTrainedAlgorithmicMedia"),
            )
        )
    }
    drawn = PngInfo()
    drawn.add_itxt("XML:com.adobe.xmp", f"{term}trainedAlgorithmicMedia")
    files["4.png"] = encoded(noise((16, 16)), pnginfo=drawn)
    folder(here / "drawn", files)
    assert "\ngenerated   3 say that a model has drawn them\n" in run("info", "drawn")


def test_info_counts_copies_and_blank_images(here):
    """Reference: what prepare says of the same images; by hand: a copy in another format and one
    of two blank images. An image that is the same at 4x4 only is none."""
    fill(here / "photos", 3)
    with Image.open(here / "photos" / "000.png") as image:
        image.save(here / "photos" / "again.bmp")
        swapped = np.array(image)
    swapped[0, [0, 1]] = swapped[0, [1, 0]]
    Image.fromarray(swapped).save(here / "photos" / "other.png")
    Image.new("RGB", (16, 16), "white").save(here / "photos" / "white.png")
    Image.new("RGBA", (16, 16)).save(here / "photos" / "clear.png")
    said, prepared = flat(run("info", "photos")), flat(run("prepare", "photos", "made"))
    for line in (
        "2 of 7 images are exact copies of others; 000.png is there 2 times;",
        "2 images are blank, all of one colour: clear.png, white.png",
    ):
        assert line in said and line in prepared
    assert "-o network.resolution=16 -o data.drop_copies=true" in said  # there are many copies
    assert "is prepared: 5 images" in run("prepare", "photos", "b", "--drop-copies")


def test_info_shows_how_many_have_a_resolution(here):
    """Reference: by hand, of 12 images of 64, 3 of 60 and 1 of 20 pixels."""
    for name, count, side in (("a", 12, 64), ("b", 3, 60), ("c", 1, 20)):
        fill(here / "photos" / name, count, (side, side))
    said = flat(run("info", "photos"))
    assert "resolution images that have it 64x64 12 32x32 15 16x16 16" in said
    assert "3 more are within 10 % of 64x64" in said and "; 1 others would be enlarged" in said
    fill(here / "even", 2)
    assert "images that have it" not in run("info", "even")


@pytest.mark.parametrize("gpu", [False, True])
def test_commands_fit_the_machine_and_the_images(gpu):
    """Reference: by hand. Every command can be read by `progan train`."""
    given = "my photos", 10**5, 64, 1, "-o data.labels=true", gpu
    *small, size, whole = commands(*given)
    assert whole == (
        "progan train --data 'my photos' -o network.resolution=64 -o network.channels=1 "
        "-o data.labels=true"
    )
    assert size == ("at 64x64:" if gpu else "on a GPU, at 64x64:")
    demo = "progan train --data 'my photos' --config demo -o network.channels=1 -o data.labels=true"
    assert small[1:] == ([] if gpu else [demo])
    *_, few = commands("photos", 100, 64, 3, "", gpu)
    assert few == "progan train --data photos --config few-images -o network.resolution=64"
    assert list(commands("demo", 10, 32, 3, "", gpu)) == ["progan train --data demo"]


def test_info_reads_prepared_images_to_their_ends(here, monkeypatch):
    """Reference: one image changed by hand. Opening looks at some; of few, at all."""
    fill(here / "photos", 20)
    run("prepare", "photos", "made")
    assert "pixels as prepared" in flat(run("info", "made"))
    level = np.load("made/0008.npy")
    level[3] ^= 1
    np.save("made/0008.npy", level)
    assert "0008.* holds other images than were prepared" in refused("info", "made")
    monkeypatch.setattr("progan.data.pyramid.format.CHECKED_BYTES", 0)
    assert "pixels damaged: 1 at 8x8; delete the folder" in flat(run("info", "made"))


def test_info_warns_of_labels_without_use(here):
    """Reference: counted by hand: constant attributes, and classes of one image."""
    fill(here / "photos", 3)
    table = here / "photos" / "labels.csv"
    table.write_text("file,p,q,r\n000.png,1,0,1\n001.png,1,0,0\n002.png,1,0,0\n")
    said = flat(run("info", "photos"))
    assert "warning: 2 of 3 attributes are the same in all images (p, q)" in said
    table.write_text("file,kind\n000.png,a\n001.png,b\n002.png,c\n")
    assert "warning: 3 classes of 1 image" in flat(run("info", "photos"))
    table.write_text("file,p,q\n000.png,1,0\n001.png,0,1\n002.png,1,1\n")
    assert "warning" not in run("info", "photos")


def test_info_of_a_pyramid(odd):
    """Reference: the pyramid itself: count, shares, sizes on disk, the list of bad files."""
    run("prepare", odd, "made", "--labels")
    said = flat(run("info", "made"))
    assert "made: 8 images of odd, prepared" in said and "4x4 to 16x16, colour" in said
    assert "bad 4, which are left out: dogs/cut.jpg" in said
    assert "cats 5 62.5 %" in said and "dogs 3 37.5 %" in said
    total = sum(os.path.getsize(f"made/{r:04d}.npy") for r in (4, 8, 16))
    assert f"disk {total / 1000:.1f} kB: 4x4 512 B array" in said
    command = "progan train --data made --config few-images -o network.resolution=16"
    assert f"{command} -o data.labels=true" in said


def test_info_of_png_levels(here):
    """Reference: the files of a level that is kept as records."""
    fill(here / "photos", 2, (256, 256))
    run("prepare", "photos", "made", "--storage", "png")
    assert (here / "made" / "0256.records").exists()
    assert "kB png" in flat(run("info", "made"))
    assert "arrays and PNG" in run("info", "photos")


def test_info_of_shards(here):
    """Reference: a WebDataset tar with two classes, named by a pattern."""
    with tarfile.open("s-0.tar", "w") as archive:
        for i in range(4):
            data = io.BytesIO()
            picture(16, 16, seed=i).save(data, "PNG")
            for name, content in ((f"{i}.png", data.getvalue()), (f"{i}.cls", b"%d" % (i % 2))):
                entry = tarfile.TarInfo(name)
                entry.size = len(content)
                archive.addfile(entry, io.BytesIO(content))
    said = flat(run("info", "s-{0..0}.tar"))
    assert "4 images" in said and "labels 2 classes, each of 2 images 0 2 50.0 %" in said
    assert "is prepared: 2 images" in run(
        *("prepare", "s-{0..0}.tar", "few", "--max-images", 2, "--storage", "raw", "--drop-copies")
    )
    assert "is prepared: 4 images" in run("prepare", "s-{0..0}.tar", "made", "--labels")


def test_dark_shards_are_told_of(here, caplog):
    """Reference: what is said of a folder of the same image."""
    deep = Image.fromarray(np.arange(256, dtype=np.uint16).reshape(16, 16) * 16)
    Path("deep").mkdir()
    deep.save("deep/0.png")
    with tarfile.open("deep-0.tar", "w") as archive:
        archive.add("deep/0.png", "0.png")
    for name in ("deep", "deep-{0..0}.tar"):
        caplog.clear()
        run("info", name)
        assert "4,080 of 65,535, so they will be nearly black" in caplog.text


@pytest.mark.parametrize("name", ["", "nowhere", "nowhere.tar", "empty"])
def test_info_refuses_what_holds_no_images(here, name):
    """Reference: exit code 2, and a message that names the value."""
    (here / "empty").mkdir()
    assert f"{name or 'SOURCE is empty'}" in refused("info", name)


def test_info_of_damaged_pyramids(here):
    """Reference: a truncated array, and a folder with nothing but a torn journal."""
    fill(here / "photos", 2)
    run("prepare", "photos", "made")
    os.truncate("made/0004.npy", 200)
    assert "damaged" in refused("info", "made")
    (here / "torn").mkdir()
    (here / "torn" / "unfinished.jsonl").write_text('{"version"')
    assert "cannot be seen how far it came" in flat(run("info", "torn"))


def test_info_of_an_unfinished_pyramid(here):
    """Reference: a journal as the writer leaves it, counted by hand."""
    (here / "made").mkdir()
    first = {"version": 2, "made_from": "x", "total": 1000, "resolution": 64, "png": []}
    entries = [
        {"start": 0, "stop": 64, "bad": [[3, "empty file", None]], "lengths": {}},
        {"start": 64, "stop": 128, "bad": [], "lengths": {}},
    ]
    lines = [json.dumps(entry) + "\n" for entry in [first, *entries]]
    (here / "made" / "unfinished.jsonl").write_text("".join(lines) + '{"stop": 1')
    said = flat(run("info", "made"))
    assert "made: not finished: 128 of 1,000 images (12.8 %) levels 4x4 to 64x64 bad 1" in said
    assert "progan data prepare SOURCE made" in said


# --- contact sheets ---


def test_sheet_shows_the_images(here):
    """Reference: plain colours at the places where a row a class must put them."""
    for name, colour in (("cats", (250, 0, 0)), ("dogs", (0, 0, 250))):
        (here / "photos" / name).mkdir(parents=True)
        for i in range(3):
            Image.new("RGB", (30, 20), colour).save(here / "photos" / name / f"{i}.png")
    assert "a row a class" in run("info", "photos", "--sheet", "sheet.png")
    pixels = np.asarray(Image.open("sheet.png"))
    left = pixels.shape[1] - (8 * 132 + 4)  # of the classes' names
    assert pixels.shape[0] == 2 * 132 + 4 and 20 < left < 132
    assert all((pixels[y : y + 132, :left] < 100).any() for y in (0, 132))
    centres = pixels[4 + 64 :: 132, left + 4 + 64 :: 132]
    assert (centres[0, :3] == (250, 0, 0)).all() and (centres[1, :3] == (0, 0, 250)).all()
    assert set(centres[:, 3:].flat) <= set(HATCHED), "hatched where a class has no more images"

    run("prepare", "photos", "made", "--max-resolution", 8, "--channels", 1)
    output = run("info", "made", "--sheet", "sheet.png")  # over the one we made
    assert "contact sheet: sheet.png (replaced)" in output
    pixels = np.asarray(Image.open("sheet.png"))
    luma = [int(Pyramid.open("made").level(8)[i, 0, 4, 4]) for i in range(6)]
    assert pixels[4 + 64, 4 + 64 :: 132][:6, 0].tolist() == luma


def test_sheet_overwrites_nothing_else(here):
    """Reference: the bytes of other files, which must stay."""
    fill(here / "photos", 2)
    Path("mine.png").write_bytes((here / "photos/000.png").read_bytes())
    Path("text.png").write_text("dear diary")
    (here / "folder.png").mkdir()
    for name, why in (
        ("mine.png", "is no sheet of an earlier"),
        ("text.png", "is no sheet of an earlier"),
        ("folder.png", "is no sheet of an earlier"),
        ("sheet.jpg", "ending in .png"),
        ("nowhere/sheet.png", "there is no folder nowhere"),
        ("photos/sheet.png", "would become one of them"),
        ("", "is empty"),
    ):
        assert why in refused("info", "photos", "--sheet", name), name
    assert Path("text.png").read_text() == "dear diary"
    assert Path("mine.png").read_bytes() == (here / "photos/000.png").read_bytes()
    assert sorted(path.name for path in here.iterdir()) == [
        "folder.png",
        "mine.png",
        "photos",
        "text.png",
    ]


# --- list ---


def test_list_tells_of_every_known_set(here, monkeypatch):
    """Reference: NAMED itself; a set is found once its folder is there."""
    text = run("list")
    for name, known in NAMED.items():
        assert f"\n{name}: {known.what}\n" in text
        assert f"progan train --data {name}\n" in text
    assert "(found)" not in text and str(here / "data") in text
    assert max(map(len, text.splitlines()[1:])) <= 100
    (here / "mine" / "MNIST" / "raw").mkdir(parents=True)
    monkeypatch.setenv("PROGAN_DATA", "mine")
    assert "mine/MNIST/raw (found)" in run("list")
    text = run("list", "--root", "mine")
    assert "progan train --data mnist -o data.root=mine" in text
    assert "(found)" not in run("list", "--root", "elsewhere")


# --- prepare ---


def test_prepare_finds_the_resolution_and_says_what_next(here):
    """Reference: images of 40x50 have 32x32; the pyramid equals that of the library."""
    fill(here / "photos", 6, (40, 50))
    said = run("prepare", "photos", "made", "--workers", 0)
    assert "32x32 is the largest resolution that nearly all images have (6 of 6 looked at)" in said
    assert "4x4 288 B" in said and "free" in said, "what it takes is said before"
    command = "progan train --data made --config few-images -o network.resolution=32"
    assert said.endswith(f" at 32x32, for few images: {command}\n")
    on_cpu = "to train on it, small networks at 32x32, for this machine, which has no GPU: progan"
    assert (on_cpu in said) != has_gpu()
    pyramid = Pyramid.open("made")
    assert (pyramid.count, pyramid.resolution, pyramid.channels) == (6, 32, 3)

    before = {path: path.stat().st_mtime_ns for path in (here / "made").glob("*.npy")}
    assert "has been prepared already: 6 images" in run("prepare", "photos", "made")
    assert before == {path: path.stat().st_mtime_ns for path in (here / "made").glob("*.npy")}


def test_prepare_options_reach_the_pyramid(odd):
    """Reference: each option's effect on the pyramid that is made."""
    run("prepare", odd, "a", "--channels", 1, "--labels", "--max-resolution", 8, "--pad")
    pyramid = Pyramid.open("a")
    assert (pyramid.channels, pyramid.resolution, pyramid.labels.names) == (1, 8, ("cats", "dogs"))
    assert pyramid.level(8)[1, 0, :, 0].max() < 8, "b.png is tall, its left side a black bar"
    run("prepare", odd, "b", "--crop", "0,0,8", "--max-images", 3)
    assert Pyramid.open("b").count == 3 and Pyramid.open("b").resolution == 8
    run("prepare", odd, "c", "--max-resolution", 32, "--allow-upscale")
    assert Pyramid.open("c").resolution == 32


def test_the_command_it_prints_takes_the_folder(here):
    """Reference: what `progan train` opens for exactly that command."""
    fill(here / "photos", 4)
    said = run("prepare", "photos", "made", "--channels", 1)
    assert said.splitlines()[-1].startswith("to train on it, ")
    overrides = [word for word in said.splitlines()[-1].split() if "=" in word]
    opened = open_data(resolve("made", None, overrides), False, print)
    assert (opened.count, opened.resolution, opened.channels) == (4, 16, 1)


def test_prepare_refusals(odd, here):
    """Reference: exit code 2, the value and what to do; and DEST is not made."""
    fill(here / "tiny", 2, (3, 3))
    (here / "broken").mkdir()
    (here / "broken" / "a.png").write_text("no image")
    for arguments, why in (
        (["nowhere", "made"], "'nowhere' is no known data set"),
        (["./tinny", "made"], "no such path: './tinny' (did you mean 'tiny'?)"),
        (["brokn", "made"], "no such path exists (did you mean 'broken'?)"),
        (["broken/a.png", "made"], "broken/a.png is one image; give the path of a folder"),
        (["", "made"], "SOURCE is empty"),
        ([odd, ""], "is empty; give a path"),
        ([odd, "made", "--pad", "--crop", "0,0,8"], "give one"),
        ([odd, "made", "--crop", "0,0"], "'0,0' is not X,Y,SIZE"),
        ([odd, "made", "--crop", "-1,0,8"], "is not X,Y,SIZE"),
        ([odd, "made", "--crop", "0,0,2"], "give 4 pixels or more"),
        ([odd, "made", "--crop", "9,0,16"], "do not hold the crop 9,0,16"),
        ([odd, "made", "--crop", "0,0,8", "--max-resolution", 16], "or --allow-upscale"),
        ([odd, "made", "--max-resolution", 12], "'12' is not a resolution; give a power of two"),
        ([odd, "made", "--max-resolution", 2048], "is not a resolution"),
        ([odd, "made", "--max-resolution", "big"], "is not a resolution"),
        ([odd, "made", "--channels", 4], "'4' is not one of '1', '3'"),
        ([odd, "made", "--storage", "zip"], "'zip' is not one of"),
        ([odd, "made", "--max-bad", -1], "'--max-bad'"),
        ([odd, "made", "--max-images", 0], "'--max-images'"),
        ([odd, "made", "--workers", -1], "'--workers'"),
        (["tiny", "made"], "smaller than 4x4 (one has 3x3)"),
        (["tiny", "made", "--labels"], "lie in no class folder"),
        (["broken", "made"], "none of 1 images looked at can be read (a.png: not an image"),
    ):
        assert why in refused("prepare", *arguments), arguments
        assert not (here / "made").exists(), arguments


def test_prepare_leaves_other_folders_alone(odd, here):
    """Reference: a folder of the user's, another pyramid, too many bad images, no folder at all."""
    assert "holds other files" in refused("prepare", odd, odd)
    run("prepare", odd, "made")
    assert "other images or options" in refused("prepare", odd, "made", "--channels", 1)
    assert "is a prepared folder already" in refused("prepare", "made", "again")
    message = refused("prepare", odd, "few", "--max-bad", 3)
    assert "4 of the 12 images cannot be used" in message and "--max-bad" in message
    assert "cut.jpg" in (here / "few" / "bad-files.txt").read_text()
    assert "is prepared: 8 images" in run("prepare", odd, "few", "--max-bad", 4)
    (here / "file").write_text("mine")
    assert "cannot write" in refused("prepare", odd, "file")
    assert (here / "file").read_text() == "mine"


def test_default_resolution_leaves_out_no_more_than_max_bad(here):
    """Reference: 2 of 200 are small, one in a hundred; --max-bad 1 forbids to lose both."""
    fill(here / "photos", 198)
    for i in range(2):
        picture(9, 9).save(here / "photos" / f"small{i}.png")
    assert "16x16 is the largest" in run("prepare", "photos", "a", "--workers", 0)
    assert "8x8 is the largest" in run("prepare", "photos", "b", "--workers", 0, "--max-bad", 1)


@pytest.mark.parametrize(
    ("send", "number", "code"),
    [
        (os.killpg, signal.SIGINT, 130),
        (os.kill, signal.SIGTERM, 143),
        pytest.param(os.killpg, signal.SIGTERM, 143, marks=pytest.mark.slow),
        pytest.param(os.killpg, signal.SIGHUP, 129, marks=pytest.mark.slow),
    ],
    ids=["Ctrl-C", "SIGTERM", "SIGTERM to all", "closed terminal"],
)
def test_a_stop_loses_nothing(here, send, number, code):
    """Reference: the journal it leaves; the exit code; the same command then finishes. A terminal
    signals the workers too, a batch system often the main process alone."""
    fill(here / "photos", 40, (64, 64))
    words = ["data", "prepare", "photos", "made", "--workers", 2]
    words += ["--max-resolution", 512, "--allow-upscale", "--storage", "png"]
    process = subprocess.Popen(
        command(*words), cwd=here, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    deadline = time.monotonic() + 60
    while not (here / "made" / "0256.records").exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    time.sleep(0.2)  # workers start and make some images
    send(process.pid, number)
    _, said = process.communicate(timeout=60)
    assert process.returncode == code, said
    assert "nothing is lost; the same command goes on" in said and "Traceback" not in said
    done = json.loads(Path("made/unfinished.jsonl").read_text().splitlines()[-1]).get("stop", 0)
    assert f"not finished: {done:,} of 40 images" in flat(run("info", "made"))
    said = run(*words[1:])
    assert f"going on after {done} images" in said or not done
    assert "is prepared: 40 images" in said and Pyramid.open("made").count == 40


# --- the page of documentation, and what loads ---


def test_documented_format_can_be_written_by_others(here):
    """Reference: the program in docs/data.md, run as it stands; its images come back."""
    page = (Path(__file__).parent.parent / "docs" / "data.md").read_text(encoding="utf-8")
    program = page.split("```python\n")[1].split("```")[0]
    subprocess.run([sys.executable, "-c", program], check=True)
    pyramid = Pyramid.open("made")
    images = np.random.default_rng(0).integers(0, 256, (100, 3, 32, 32), np.uint8)
    assert np.array_equal(pyramid.level(32), images)
    assert np.array_equal(pyramid.level(4), box_levels(images, 4)[4])
    assert "made: 100 images of noise, prepared" in run("info", "made")


def test_no_torch_is_loaded():
    """Reference: a new interpreter's loaded modules, with all that the three commands import."""
    names = ["cli.data", "data.info.report", "data.info.contact_sheet", "data.sources.shards"]
    modules = ", ".join(f"progan.{name}" for name in names)
    code = f"import sys, {modules}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


@pytest.mark.parametrize("words", [[], ["prepare"], ["list"], ["info"]])
def test_help(words):
    """Reference: every command explains itself."""
    assert "Usage:" in run(*words, "--help")
