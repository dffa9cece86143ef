"""Formats of image files that are decoded, and the suffixes of such files."""

import sys

from PIL import Image, TiffImagePlugin

from progan.runtime.extras import how_to_install

try:
    import pi_heif  # the extra heic
except ImportError:
    pi_heif = None
else:
    pi_heif.register_heif_opener(decode_threads=1)  # there is a worker for every core already

# Still pictures that Pillow decodes itself and knows by their first bytes. Each decoder is code
# that hostile files reach, so these are not all. Left out are formats that other programs draw
# (EPS, PDF, WMF), those without a magic number, for which any file could be taken (TGA, PCD), and
# those of icons, layers, textures and measurements (ICO, PSD, DDS, FITS).
STILLS = (
    *("JPEG", "PNG", "WEBP", "BMP", "DIB", "TIFF", "GIF", "PPM"),
    *("AVIF", "HEIF", "JPEG2000", "QOI"),
)

SUFFIX_OF = Image.registered_extensions()  # a format by suffix; loads all of Pillow's plugins

if avif := sys.modules.get("PIL.AvifImagePlugin"):
    avif.DEFAULT_MAX_THREADS = 1  # type: ignore[attr-defined]  # as for HEIC

# Kinds of TIFF that Pillow decodes and does not list: the smallest value is white in 12, 16 or 32
# bits, 32 bits without a sign, floats of 64 bits.
for order, end in ((b"II", ""), (b"MM", "B")):
    for white, number, bits, kind in (
        *((0, 1, 12, ("I;16", "I;12")), (1, 1, 12, ("I;16", "I;12"))),
        *((0, 1, 16, ("I;16" + end, "I;16" + end)), (0, 2, 16, ("I", f"I;16{end}S"))),
        (0, 1, 32, ("I", "I;32" + end)),
        *((1, 1, 32, ("I", "I;32" + end)), (0, 2, 32, ("I", f"I;32{end}S"))),
        *((0, 3, 64, ("F", f"F;64{end}F")), (1, 3, 64, ("F", f"F;64{end}F"))),
    ):
        TiffImagePlugin.OPEN_INFO.setdefault((order, white, (number,), 1, (bits,), ()), kind)

# A file's first bytes choose the decoder, whatever its suffix; none but these may run.
FORMATS = [name for name in STILLS if name in Image.OPEN]

# Of a JPEG with a second picture, from 3D cameras and phones, Pillow calls the format MPO.
SUFFIXES = tuple(
    suffix
    for wanted in FORMATS
    for suffix, name in sorted(SUFFIX_OF.items())
    if name.replace("MPO", "JPEG") == wanted
)


def may_be_image(start: bytes) -> bool:
    """Whether a decoder may take a file with these first bytes, of which it looks at 16."""
    start = start[:16].ljust(16, b"\0")
    accepts = (Image.OPEN[name][1] for name in FORMATS)
    return any(accept is None or accept(start) not in (False, None) for accept in accepts)


HEIC = (".heic", ".heif", ".hif")
HEIC_BRANDS = (b"heic", b"heix", b"mif1", b"msf1", b"hevc")
# Pictures that cannot be read here, so that these are named first.
PICTURES = {
    *SUFFIX_OF,
    *HEIC,
    *(".avif", ".avifs"),
    *(".jxl", ".svg", ".exr", ".hdr", ".dcm", ".nii", ".mp4", ".mov", ".avi", ".mkv", ".webm"),
    *(".dng", ".cr2", ".cr3", ".nef", ".arw", ".raf", ".orf", ".rw2", ".pef", ".srw", ".xcf"),
}


def what_instead(content: bytes) -> str:
    """What a file is that cannot be opened, as far as it is known."""
    start = content[:64].lstrip().lower()
    if start.startswith(b"version https://git-lfs"):
        return "a pointer of Git LFS in place of the image: git lfs pull fetches it"
    if start.startswith((b"<!doctype html", b"<html")):
        return "a web page, not an image: fetch it again"
    if content[4:8] == b"ftyp" and content[8:12] in HEIC_BRANDS and "HEIF" not in FORMATS:
        return f"HEIC, whatever its suffix: it is read after {how_to_install('heic')}"
    if content.startswith((b"II*\0", b"MM\0*")):
        return "a TIFF of a kind that is not supported: save it as another, or as PNG or .npy"
    return "not an image, or of a kind that is not supported"
