"""Colours that an image file means: its ICC profile, CIELAB, and what is transparent, as sRGB."""

import io
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
from PIL import Image, ImageCms

SAME = 2  # levels that colours may move by under a profile that is sRGB in effect
NAME_LENGTH = 40
COLOURLESS = ("1", "L", "LA", "La")
FIRST = {"La": "LA", "RGBa": "RGBA", "LAB": "RGB", "HSV": "RGB"}  # what PIL can make of them
BLACK_POINT = 0x2000  # lcms: the darkest colour of a profile becomes black
SRGB = ImageCms.createProfile("sRGB")


class Profile(NamedTuple):
    """What an ICC profile says about the images of a mode.

    Args:
        name: its description, printable.
        usable: whether it can be read and is one of such images.
        mode: that `transform` takes; None: it is sRGB in effect, or not usable.
    """

    name: str
    usable: bool
    mode: str | None = None
    transform: ImageCms.ImageCmsTransform | None = None


def profile_of(image: Image.Image) -> Profile | None:
    """The profile in an image's file, if there is one."""
    data = image.info.get("icc_profile")
    return look_at_profile(data, group_of(image.mode)) if data else None


def group_of(mode: str) -> str:
    """GRAY, RGB or CMYK."""
    deep = mode.startswith("I") or mode == "F"
    return "GRAY" if deep or mode in COLOURLESS else "CMYK" if mode == "CMYK" else "RGB"


@lru_cache(64)
def look_at_profile(data: bytes, group: str) -> Profile:
    """The profile in `data`, which is in the file of an image of GRAY, RGB or CMYK."""
    name = "a damaged one"
    try:
        profile = ImageCms.ImageCmsProfile(io.BytesIO(data))
        space = profile.profile.xcolor_space.strip()
        text = (profile.profile.profile_description or "").strip()
        name = "".join(c if c.isprintable() else "?" for c in text)[:NAME_LENGTH] or "one unnamed"
        if space != group and (space, group) != ("RGB", "GRAY"):  # viewers take grey as R = G = B
            return Profile(name, False)
        mode = {"GRAY": "L"}.get(space, space)
        flags: Any = BLACK_POINT
        transform = ImageCms.buildTransform(profile, SRGB, mode, "RGB", flags=flags)
        if changes(transform, mode):
            return Profile(name, True, mode, transform)
    except Exception:  # of any type; a picture is worth more than its profile
        return Profile(name, False)
    return Profile(name, True)


def changes(transform: ImageCms.ImageCmsTransform, mode: str) -> bool:
    """Whether a transform to RGB moves any colour of a coarse grid, or any grey, noticeably."""
    if mode == "CMYK":
        return True
    grid = np.arange(256, dtype=np.uint8).reshape(16, 16)
    if mode == "RGB":
        steps = np.linspace(0, 255, 16).round().astype(np.uint8)
        colours = np.stack(np.meshgrid(steps, steps, steps), 3).reshape(-1, 16, 3)
        grid = np.concatenate([np.stack([grid] * 3, 2), colours])
    before = Image.fromarray(grid)
    after = transform.apply(before)
    moved = np.asarray(before.convert("RGB"), np.int16) - np.asarray(after, np.int16)
    return bool(abs(moved).max() > SAME)


def to_srgb(image: Image.Image, channels: int, background: str) -> Image.Image:
    """An image of 8 bits or fewer in mode L (luma, ITU-R 601-2) or RGB.

    Args:
        channels: 1 or 3.
        background: what is transparent is laid over this colour.
    """
    mode = "L" if channels == 1 else "RGB"
    if image.mode in FIRST:
        image = image.convert(FIRST[image.mode])
    profile = profile_of(image)
    if profile and profile.transform:
        clear = image.convert("RGBA").getchannel("A") if image.has_transparency_data else None
        image = profile.transform.apply(image.convert(profile.mode))
        if clear:
            image.putalpha(clear)
    if image.has_transparency_data:
        under = Image.new("RGBA", image.size, background)
        image = Image.alpha_composite(under, image.convert("RGBA"))
    return image if image.mode == mode else image.convert(mode)


def has_clear_parts(image: Image.Image) -> bool:
    """Whether any pixel lets the background through."""
    if not image.has_transparency_data:
        return False
    straight = image.convert(FIRST.get(image.mode, image.mode))
    return np.asarray(straight.convert("RGBA"))[..., 3].min() < 255
