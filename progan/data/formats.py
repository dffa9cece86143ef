"""Formats of image files that are decoded, and the suffixes of such files."""

import sys

from PIL import Image

try:
    import pi_heif  # pip install 'progan[heic]'
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

# A file's first bytes choose the decoder, whatever its suffix; none but these may run.
FORMATS = [name for name in STILLS if name in Image.OPEN]

# Of a JPEG with a second picture, from 3D cameras and phones, Pillow calls the format MPO.
SUFFIXES = tuple(
    suffix
    for wanted in FORMATS
    for suffix, name in sorted(SUFFIX_OF.items())
    if name.replace("MPO", "JPEG") == wanted
)

HEIC = (".heic", ".heif", ".hif")
# Pictures that cannot be read here, so that these are named first.
PICTURES = {
    *SUFFIX_OF,
    *HEIC,
    *(".avif", ".avifs"),
    *(".jxl", ".svg", ".exr", ".hdr", ".dcm", ".nii", ".mp4", ".mov", ".avi", ".mkv", ".webm"),
    *(".dng", ".cr2", ".cr3", ".nef", ".arw", ".raf", ".orf", ".rw2", ".pef", ".srw", ".xcf"),
}
