"""From an image of any size and mode to a square of 8-bit grey or RGB, and to smaller ones."""

import io
import math
from dataclasses import dataclass

import numpy as np
import simplejpeg
from PIL import Image, ImageFile, ImageOps, TiffImagePlugin, UnidentifiedImageError

from progan.data.boxes import profile_in_boxes
from progan.data.colour import profile_of, to_srgb
from progan.data.depth import (
    BadImage,
    Values,
    kind_of,
    to_8_bits,
    to_bytes,
)
from progan.data.formats import FORMATS, what_instead
from progan.data.metadata import (
    MORE_FRAMES,
    PNG,
    Png,
    is_adobe_rgb,
    scale_transparent,
    set_upright,
    upright_size,
    without_excess,
)
from progan.data.stated_colour import ADOBE_RGB
from progan.data.tiff import read_as_meant

READING = 4  # kept in prepared data; raised where images are read into other pixels

Box = tuple[int, int, int]  # x, y, size of a square, in pixels of the upright image


class TooSmall(BadImage):
    """An image with too few pixels for the resolution; `size` is (width, height)."""

    def __init__(self, size: tuple[int, int], resolution: int):
        super().__init__(size, resolution)  # so that it can be pickled
        self.size = size

    def __str__(self) -> str:
        (width, height), resolution = self.args
        return f"{width}x{height} is too small for resolution {resolution}"


@dataclass(frozen=True)
class Square:
    """The square that every image of a data set is made into.

    Args:
        resolution: side in pixels.
        channels: 1 or 3.
        fit: `crop` takes the centre square, `pad` adds black bars, (x, y, size) takes that square.
        upscale: enlarge what is smaller.
        background: transparent images are laid over it: white, black or #rrggbb.
    """

    resolution: int
    channels: int = 3
    fit: str | Box = "crop"
    upscale: bool = False
    background: str = "white"

    @property
    def key(self) -> bytes:
        """For `content_key`. Files in caches are named by it, so it stays the same even if a name
        in this class changes."""
        over = "" if self.background == "white" else f", background={self.background}"
        return (
            f"Square(resolution={self.resolution}, channels={self.channels}, fit={self.fit!r}, "
            f"upscale={self.upscale}{over})"
        ).encode()


Content = bytes | np.ndarray | Image.Image


def read_square(content: Content, square: Square, values: Values | None = None) -> np.ndarray:
    """A file's bytes, an array or an image as uint8 [channels, resolution, resolution].

    A square of resolution * 2^k pixels is reduced by box averages, as between the levels of a
    pyramid; one of any other size by PIL's Lanczos filter, antialiased. PIL's warnings pass.

    Args:
        content: an array is uint8 or uint16, [H, W] or [H, W, 1 | 3 | 4].
        values: what is black and white in images of more than 8 bits; None: found in this one.

    Raises:
        BadImage: it cannot be used. TooSmall, if that is why.
    """
    try:
        x = read_plain(content, square)
        return to_square(open_image(content, values), square, values) if x is None else x
    except BadImage:
        raise
    except MemoryError:  # is not the image's fault
        raise
    except OSError as error:
        raise BadImage(error.strerror or str(error)) from error
    except Exception as error:  # PIL's decoders meet broken files with errors of any type
        raise BadImage(f"{type(error).__name__}: {error}") from error


def read_plain(content: Content, square: Square) -> np.ndarray | None:
    """`read_square` of upright 8-bit pixels with the right channels and a box average to take.

    Most images are like that, and this is twice as fast as the long way, with the same result.
    Their colours are sRGB, or have a profile that changes nothing.
    Returns None for all others and for damaged ones: the long way finds out what is wrong.
    """
    if isinstance(content, np.ndarray) and content.dtype == np.uint8:
        pixels = content[..., None] if content.ndim == 2 else content
        size, colour = pixels.shape[1::-1], pixels.shape[2]
    elif isinstance(content, bytes) and content.startswith(b"\xff\xd8"):
        if b"Exif\0\0" in content or b"ns.adobe.com/xap" in content:  # may turn it
            return None
        try:
            height, width, space, _ = simplejpeg.decode_jpeg_header(content)
        except ValueError:
            return None
        size, colour = (width, height), {"Gray": 1, "YCbCr": 3}.get(space)
    else:
        return None
    side = min(size)
    left, top = (size[0] - side) // 2, (size[1] - side) // 2
    halvings = halvings_of(side, square.resolution)
    if halvings is None or square.fit != "crop" or colour != square.channels:
        return None
    if size[0] * size[1] > (Image.MAX_IMAGE_PIXELS or math.inf):
        return None
    if isinstance(content, bytes):
        profile = profile_of(open_image(content)) if b"ICC_PROFILE\0" in content else None
        if profile and profile.transform:
            return None
        factor = 8 if halvings >= 3 and size == (side, side) else 1  # see decode_smaller
        left, top, side = left // factor, top // factor, side // factor
        least = {"min_height": size[1] // factor, "min_width": size[0] // factor}
        try:
            pixels = simplejpeg.decode_jpeg(content, "GRAY" if colour == 1 else "RGB", **least)
        except ValueError:
            return None
    return shrink(pixels[top : top + side, left : left + side], square.resolution)


def shrink(pixels: np.ndarray, resolution: int) -> np.ndarray:
    """uint8 [side, side, C] to [C, resolution, resolution] by the box average."""
    x = np.ascontiguousarray(pixels.transpose(2, 0, 1))
    return box_levels(x[None], resolution)[resolution][0] if x.shape[-1] > resolution else x


def halvings_of(side: int, resolution: int) -> int | None:
    """k where side is resolution * 2^k, else None."""
    k = (side // resolution).bit_length() - 1
    return k if k >= 0 and side == resolution << k else None


def open_image(content: Content, values: Values | None = None) -> Image.Image:
    """The image, its pixels not yet decoded. Raises BadImage.

    Args:
        values: see `read_square`.
    """
    if isinstance(content, Image.Image):
        return content
    if isinstance(content, np.ndarray):
        if kind := kind_of(content.dtype):
            content = to_bytes(content, kind, values)
        flat = content.ndim == 3 and content.shape[2] == 1
        return Image.fromarray(content[..., 0] if flat else content)
    if not content:
        raise BadImage("empty file")
    content, profile, animated = without_excess(content) if content[:8] == PNG else Png(content)
    try:
        image = Image.open(io.BytesIO(content), formats=FORMATS)
    except UnidentifiedImageError:
        raise BadImage(what_instead(content)) from None
    if image.width * image.height > (Image.MAX_IMAGE_PIXELS or math.inf):
        raise BadImage(f"{image.width}x{image.height} pixels: taken for a decompression bomb")
    if not profile and not image.info.get("icc_profile"):
        boxed = image.format in ("JPEG2000", "AVIF", "HEIF")
        profile = profile_in_boxes(content) if boxed else None
        if not profile and is_adobe_rgb(image):
            profile = ADOBE_RGB
    if profile:
        image.info["icc_profile"] = profile
    if animated:
        image.info[MORE_FRAMES] = True
    scale_transparent(image)
    if isinstance(image, TiffImagePlugin.TiffImageFile):
        read_as_meant(image)
    return image


def to_square(image: Image.Image, square: Square, values: Values | None) -> np.ndarray:
    """See `read_square`."""
    r = square.resolution
    size = upright_size(image)
    x, y, whole = region(size, square.fit)
    if whole < r and not square.upscale:
        raise TooSmall(size, r)
    halvings = halvings_of(whole, r)
    shrunk = 1  # of a padded image, whose bars would have to begin within a pixel
    if square.fit != "pad":
        shrunk = decode_smaller(image, size, whole, r, halvings)
    image = set_upright(image)
    left, top, side = x / shrunk, y / shrunk, whole / shrunk
    if square.fit != "pad":  # cut it out first: PIL's filter looks beyond its box
        x, y = math.floor(left), math.floor(top)
        image = image.crop((x, y, math.ceil(left + side), math.ceil(top + side)))
        left, top = left - x, top - y
    if kind_of(image.mode):
        image = to_8_bits(image, values)
    image = to_srgb(image, square.channels, square.background)
    if square.fit == "pad":
        left, top, image = 0, 0, ImageOps.pad(image, (whole, whole))
    if halvings is None:
        area = left, top, left + side, top + side
        image = image.resize((r, r), Image.Resampling.LANCZOS, box=area)
    return shrink(np.asarray(image).reshape(*image.size, square.channels), r)


def region(size: tuple[int, int], fit: str | Box) -> tuple[int, int, int]:
    """Left, top and side of the square that is taken; a padded one begins outside."""
    width, height = size
    if isinstance(fit, str):
        side = min(size) if fit == "crop" else max(size)
        return (width - side) // 2, (height - side) // 2, side
    x, y, side = fit
    if x + side > width or y + side > height:
        raise BadImage(f"{width}x{height} does not hold the crop {x},{y},{side}")
    return fit


def decode_smaller(
    image: Image.Image, size: tuple[int, int], side: int, resolution: int, halvings: int | None
) -> int:
    """Has a JPEG decoded at 1/2, 1/4 or 1/8 if that loses nothing; returns 2, 4, 8, or else 1.

    At 1/8 each pixel is the mean of an 8x8 block, which is the box average if the blocks lie on
    the grid; before Lanczos, three times the resolution is enough.
    """
    if image.format != "JPEG" or not isinstance(image, ImageFile.ImageFile) or not image.tile:
        return 1
    if halvings is None:
        factor = next((f for f in (8, 4, 2) if side >= 3 * resolution * f), 1)
    else:
        factor = 8 if halvings >= 3 and size == (side, side) else 1
    if factor > 1:
        image.draft(None, (image.width // factor, image.height // factor))
    return factor


def box_levels(images: np.ndarray, smallest: int) -> dict[int, np.ndarray]:
    """uint8 [n, C, R, R] at R, R/2, …, `smallest`: each the average of the un-rounded level above.

    Sums are integers, so only the result is rounded; ties go to the even value, as in `numpy.rint`
    and torch.
    """
    levels = {images.shape[-1]: images}
    sums, bits = images, 0
    while sums.shape[-1] > smallest:
        wide = np.uint16 if bits < 8 else np.uint32  # up to 255 * 4^4 fits into 16 bits
        sums = np.add(sums[:, :, ::2], sums[:, :, 1::2], dtype=wide)
        sums = sums[..., ::2] + sums[..., 1::2]
        bits += 2
        means = sums + wide((1 << bits - 1) - 1)
        means += sums >> bits & 1
        levels[sums.shape[-1]] = (means >> bits).astype(np.uint8)
    return levels


def side_of(size: tuple[int, int], fit: str | Box) -> int:
    """The side of the square that is taken; 0 if the image does not hold it."""
    try:
        return region(size, fit)[2]
    except BadImage:
        return 0
