"""Marks in image files: that a trained generator made them."""

from xml.etree import ElementTree

import numpy as np
import pytest
from PIL import Image

from progan.model.grid import PICTURES, save_picture
from progan.runtime.provenance import SOFTWARE, Provenance

IPTC = "{http://iptc.org/std/Iptc4xmpExt/2008-02-29/}DigitalSourceType"
DESCRIPTION = "{http://www.w3.org/1999/02/22-rdf-syntax-ns#}li"
HOSTILE = "a</x><&\x1b[31m\udcff猫" + "é" * 5000
CODES = "http://cv.iptc.org/newscodes/digitalsourcetype/"  # https://cv.iptc.org/newscodes


def xmp_of(image: Image.Image) -> ElementTree.Element:
    packet = image.info["xmp"]
    return ElementTree.fromstring(packet if isinstance(packet, str) else packet.decode())


@pytest.mark.parametrize("suffix", sorted(set(PICTURES) - {".bmp"}))  # BMP has no room for it
@pytest.mark.parametrize("channels", [1, 3])
def test_pictures_say_that_they_were_generated(tmp_path, suffix, channels):
    """Reference: IPTC's vocabulary, read by Pillow and an XML parser of others. A class's name
    from a file of somebody else stays a text, and fits; the same picture gives the same bytes."""
    made_by = Provenance({"snapshot": "sha256 0123", "seed": "7", "class": HOSTILE})
    image = np.random.default_rng(0).integers(0, 256, (channels, 8, 8), np.uint8)
    files = [tmp_path / f"{name}{suffix}" for name in "ab"]
    for file in files:
        save_picture(image, file, made_by)
    assert files[0].read_bytes() == files[1].read_bytes()
    with Image.open(files[0]) as picture:
        picture.load()
        xmp = xmp_of(picture)
        if suffix == ".png":
            assert picture.text["Software"] == SOFTWARE and picture.text["seed"] == "7"
            assert picture.text["class"].startswith("a</x><&\\x1b[31m\\udcff猫é")
            assert len(picture.text["class"].encode()) <= 1000
    assert xmp.find(f".//{IPTC}").text == CODES + "trainedAlgorithmicMedia"
    text = xmp.find(f".//{DESCRIPTION}").text
    assert "sha256 0123; seed: 7; class: a</x><&\\x1b[31m\\udcff猫éé" in text


def test_animations_and_composites_say_so_too(tmp_path):
    """Reference: the same parser. A GIF has a comment only."""
    made_by = Provenance({"seeds": "0-3"}, composite=True)
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "blue", "green")]
    for kind in ("PNG", "WEBP", "GIF"):
        file = tmp_path / f"x.{kind.lower()}"
        more = {"save_all": True, "append_images": frames[1:], "duration": 40}
        frames[0].save(file, format=kind, **more, **made_by.save_options(kind))
        with Image.open(file) as picture:
            assert picture.n_frames == 3
            if kind == "GIF":
                source = picture.info["comment"].decode()
            else:
                source = xmp_of(picture).find(f".//{IPTC}").text
            assert source.endswith(CODES + "compositeWithTrainedAlgorithmicMedia")
