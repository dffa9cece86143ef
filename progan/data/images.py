"""One image of any size and mode to a square of 8-bit grey or RGB."""

import numpy as np
from PIL import Image

# A file's first bytes choose the decoder, whatever its suffix; none but these may run.
FORMATS = ["JPEG", "PNG", "WEBP", "BMP", "TIFF", "GIF", "PPM"]


class BadImage(Exception):
    """An image that cannot be used, and why."""


class TooSmall(BadImage):
    """An image whose shorter side is below the resolution; `size` is (width, height)."""

    def __init__(self, size: tuple[int, int], resolution: int):
        super().__init__(f"{size[0]}x{size[1]} is too small for resolution {resolution}")
        self.size = size


def to_square(image: Image.Image, resolution: int, channels: int) -> np.ndarray:
    """Centre square crop, 8-bit grey or RGB, then resize: uint8 [channels, resolution, resolution].

    From resolution * 2^k exactly the box average, as between the levels of a pyramid; from any
    other size PIL's Lanczos filter, antialiased. TooSmall if it would have to be enlarged.
    """
    width, height = image.size
    side = min(width, height)
    if side < resolution:
        raise TooSmall(image.size, resolution)
    left, top = (width - side) // 2, (height - side) // 2
    image = to_8_bit(image.crop((left, top, left + side, top + side)), channels)
    if side % resolution or (side // resolution).bit_count() != 1:
        image = image.resize((resolution, resolution), Image.Resampling.LANCZOS)
    x = np.asarray(image).reshape(*image.size, channels).transpose(2, 0, 1)
    if x.shape[-1] > resolution:
        x = np.ascontiguousarray(x, np.float32)
        while x.shape[-1] > resolution:
            x = x[:, ::2] + x[:, 1::2]
            x = (x[:, :, ::2] + x[:, :, 1::2]) / 4
        x = np.rint(x).astype(np.uint8)
    return np.ascontiguousarray(x)


def to_8_bit(image: Image.Image, channels: int) -> Image.Image:
    """To mode L (luma, ITU-R 601-2) or RGB. What is transparent is laid over white."""
    if image.mode.startswith("I") or image.mode == "F":
        x = np.asarray(image).astype(np.float64)
        if not np.isfinite(x).all():
            raise BadImage("has pixels that are not finite")
        if image.mode != "F":
            x = x / 257  # 16 bits, which PIL would clip at 255
        elif x.max() <= 1:
            x = x * 255  # floats come as 0…1 or as 0…255
        image = Image.fromarray(np.rint(x.clip(0, 255)).astype(np.uint8))
    if image.has_transparency_data:
        white = Image.new("RGBA", image.size, "white")
        image = Image.alpha_composite(white, image.convert("RGBA"))
    return image.convert("L" if channels == 1 else "RGB")
