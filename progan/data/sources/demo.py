"""The embedded data set `demo`: small cartoon faces, drawn from (seed, index) at any resolution.

Attributes of a face are independent uniform draws: any link between hair colour and skin, say, in
a model's output is bias that the model added. Shapes are signed distances, turned into coverage of
about a pixel and laid over each other as a painter would. Pixels see only + - * / sqrt, abs, min,
and max, in a fixed order, which IEEE 754 rounds in one way: a face is the same bits in any batch.
"""

import copy
from collections.abc import Sequence
from functools import reduce

import numpy as np

from progan.config.resolutions import is_resolution

CLASSES = ("bald", "short", "curly", "long", "buns", "beanie")  # the label: hair style
SIZE = 8192


def palette(text):
    """Colours by name, from 'name rrggbb name rrggbb ...', in that order."""
    words = iter(text.split())
    return {name: tuple(bytes.fromhex(next(words))) for name in words}


def rgb(*colours):
    """Colours 0..255 as float32 [n, 3, 1, 1] in 0..1."""
    return np.array(colours, np.float32)[:, :, None, None] / 255


# Drawn in this order, one number each: append new ones. Lengths are halves; the frame spans -1..1.
# fmt: off
ATTRIBUTES = {
    "hair": CLASSES, "mouth": ("closed", "open"), "backdrop": ("plain", "gradient", "halo"),
    "hair_colour": palette("black 241f26 espresso 422a22 chestnut 704228 auburn 963a24 "
                            "ginger d8682a blond ecbe62 silver b2b4bc white ece9e4 "
                            "pink ec5490 blue 3468d6 teal 169696 purple 7c42b8"),
    "iris": palette("brown 60381e hazel 96682a green 3e8e4e blue 347ece grey 708294"),
    "frame": palette("black 22222a red ce2c34 blue 244eb0 gold e8aa28 green 248c68 violet 7a3cac"),
    "cloth": palette("navy 2c3e70 red d4423e gold f0b634 green 368a62 white f0f0ec plum 7a3a6e"),
    "glasses": ("none", "none", "none", "round", "square"), "freckles": ("no", "no", "no", "yes"),
    "skin": (0, 1),  # along SKIN, light to dark
    "back": (0, 1),  # along BACK, hues that neither skin nor natural hair has
    "width": (0.49, 0.58), "height": (0.56, 0.63), "jaw": (-0.5, 0.5),  # pointed to square
    "eye_size": (0.135, 0.17), "eye_shape": (0.9, 1.2), "eye_gap": (0.235, 0.27), "gaze": (-1, 1),
    "brow_tilt": (-0.15, 0.22), "brow_weight": (0.022, 0.038), "nose": (0.045, 0.075),
    "smile": (-0.015, 0.13), "mouth_width": (0.16, 0.25), "blush": (0, 0.6),
    "parting": (-0.2, 0.2), "hairline": (-0.36, -0.26), "light": (-1, 1),  # from left or right
    "shift_x": (-0.08, 0.08), "shift_y": (-0.06, 0.06), "scale": (1.0, 1.1), "tilt": (-0.1, 0.1),
}
# fmt: on
WHITE, DARK = rgb((253, 252, 250)), np.float32(0.62)
SKIN = "ffe4d0 f9d4b4 efbf98 dda67c c08860 9a6648 724838"
BACK = "8ed4a4 70c8c0 7cbeec 92a2ec b898e6 e298d0 f098ac"
TILE = 1 << 15  # pixels worked on at once: about what a processor's cache holds
FINE = 64  # smaller faces are drawn at this resolution and averaged


def attributes(seed: int, index: int) -> dict[str, str | float]:
    """Looks of face `index` (0 or more) of set `seed`: independent values, by name."""
    generator = np.random.Generator(np.random.PCG64(np.random.SeedSequence((seed, index))))
    face = {}
    draws = generator.random(len(ATTRIBUTES)).tolist()
    for (name, options), u in zip(ATTRIBUTES.items(), draws, strict=True):
        low, *_, high = every = tuple(options)
        face[name] = every[int(u * len(every))] if isinstance(low, str) else low + (high - low) * u
    return face


def labels(seed: int, indices: Sequence[int]) -> np.ndarray:
    """The hair style of each face as an index into CLASSES: int64 [n]."""
    return np.array([CLASSES.index(attributes(seed, i)["hair"]) for i in indices], np.int64)


def draw(seed: int, indices: Sequence[int], resolution: int) -> np.ndarray:
    """Draw the faces `indices` of set `seed`: uint8 [n, 3, resolution, resolution], RGB 0..255."""
    if not is_resolution(resolution):
        raise ValueError(f"resolution must be a power of two in 4..1024, not {resolution!r}")
    faces = [attributes(seed, i) for i in indices]
    out = np.empty((len(faces), 3, resolution, resolution), np.uint8)
    fine = max(resolution, FINE)
    step = max(1, TILE // fine**2)
    for style in CLASSES:
        chosen = [k for k, face in enumerate(faces) if face["hair"] == style]
        for part in (chosen[k : k + step] for k in range(0, len(chosen), step)):
            x = Faces([faces[k] for k in part], fine).picture(style)
            while x.shape[3] > resolution:
                x = x[:, :, ::2] + x[:, :, 1::2]
                x = (x[..., ::2] + x[..., 1::2]) * np.float32(0.25)
            out[part] = np.clip(x * 255 + 0.5, 0, 255).astype(np.uint8)
    return out


def disc(x, y, radius):
    return np.sqrt(x * x + y * y) - radius


def ellipse(x, y, a, b, square=0.0):
    """Distance (to first order) to an ellipse; `square` -0.5..0.5 bends it to a diamond or box."""
    u, v = x * x / (a * a), y * y / (b * b)
    slope_x, slope_y = x * (1 - square * v) / (a * a), y * (1 - square * u) / (b * b)
    return (u + v - square * u * v - 1) / (2 * disc(slope_x, slope_y, np.float32(-1e-3)))


def box(x, y, a, b, corner):
    u, v = abs(x) - (a - corner), abs(y) - (b - corner)
    return disc(np.maximum(u, 0), np.maximum(v, 0), corner) + np.minimum(np.maximum(u, v), 0)


def blend(codes, places):
    """The colours at places 0..1 along seven, 'rrggbb rrggbb ...'."""
    channels = np.frombuffer(bytes.fromhex(codes), np.uint8).reshape(7, 3).T
    return rgb(*([np.interp(6 * place, range(7), c) for c in channels] for place in places))


class Faces:
    """Faces of one hair style: ATTRIBUTES [n, 1, 1], as colours [n, 3, 1, 1]; the picture `rgb`."""

    def __init__(self, faces, resolution):
        for name, options in ATTRIBUTES.items():
            values = np.array([face[name] for face in faces])[:, None, None]
            if isinstance(options, dict):
                setattr(self, name, rgb(*(options[face[name]] for face in faces)))
            elif isinstance(options[0], str):
                for option in options:  # a flag for each, as in glasses_round
                    setattr(self, f"{name}_{option}", np.float32(values == option))
            else:
                setattr(self, name, np.float32(values))
        self.skin: np.ndarray = blend(SKIN, self.skin.flat)
        self.back: np.ndarray = blend(BACK, self.back.flat)
        self.shade, self.dark_hair = self.skin * rgb((204, 168, 162)), self.hair_colour * DARK
        self.grid = ((2 * np.arange(resolution) + 1) / resolution - 1).astype(np.float32)
        u, v = self.grid - self.shift_x, self.grid[:, None] - self.shift_y - np.float32(0.07)
        size = self.scale * np.sqrt(1 + self.tilt * self.tilt)
        self.x, self.y = (u + self.tilt * v) / size, (v - self.tilt * u) / size
        self.rgb = np.empty((len(faces), 3, resolution, resolution), np.float32)
        self.pixel = 2 / (resolution * self.scale)

    def __getattr__(self, name: str) -> np.ndarray:  # of ATTRIBUTES, for type checkers
        raise AttributeError(name)

    def picture(self, style):
        self.backdrop()
        if style == "long":
            self.fill(self.mane(), self.dark_hair)
        self.window(-1, 1, -0.7, 1).skin_and_cloth()
        self.window(-0.5, 0.5, 0, 0.4).cheeks_and_nose()
        self.window(-0.3, 0.3, 0.25, 0.65).lips()
        self.window(-0.5, 0.5, -0.2, 0.3).eyes()
        self.hair(style)
        self.window(-0.7, 0.7, -0.35, 0.35).brows_and_glasses()
        return self.rgb

    def window(self, left, right, top, bottom):
        """The part that holds this box of head coordinates in every face, as a view."""
        gap = 0.15 + 0.21 * max(-left, right, abs(top), abs(bottom))  # shift; scale and tilt
        i, j, k, m = np.searchsorted(self.grid, (left - gap, right + gap, top - gap, bottom + gap))
        part = copy.copy(self)
        part.x, part.y, part.rgb = (a[..., k:m, i:j] for a in (self.x, self.y, self.rgb))
        return part

    def cover(self, distance, soft=0.0):
        """Share of each pixel that a shape covers, from the signed distance to its edge."""
        cover = 0.5 - distance / np.maximum(self.pixel, np.float32(soft))
        return np.minimum(np.maximum(cover, 0, out=cover), 1, out=cover)

    def paint(self, cover, colour):
        self.rgb += cover[:, None] * (colour - self.rgb)

    def fill(self, distance, colour, soft=0.0):
        self.paint(self.cover(distance, soft), colour)

    def lit(self, colour, shade):
        """A colour under soft light from above and one side: a field [n, 3, h, w]."""
        glow = 0.82 - 0.6 * self.light * self.x - 0.5 * self.y
        return shade + np.minimum(np.maximum(glow, 0), 1)[:, None] * (colour - shade)

    def backdrop(self):
        u, v = self.grid, self.grid[:, None]
        dim = self.backdrop_gradient * (0.5 + 0.5 * v - 0.2 * self.light * u)
        dim = dim + self.backdrop_halo * 0.6 * (u * u + v * v)
        self.rgb[:] = self.back * (1 - dim[:, None] * rgb((70, 60, 38)))

    def skull(self, grow=0.0):
        jaw = np.where(self.y > 0, self.jaw, np.float32(0.1))
        return ellipse(self.x, self.y, self.width + grow, self.height + grow, jaw)

    def skin_and_cloth(self):
        x, y = self.x, self.y
        skin, skull = self.lit(self.skin, self.shade), self.skull()
        self.fill(ellipse(x, y - 1.2, 0.78, 0.46), self.lit(self.cloth, self.cloth * DARK))
        self.fill(ellipse(x, y - 0.74, 0.27, 0.14), self.cloth * np.float32(0.72))
        self.fill(box(x, y - 0.54, 0.2, 0.28, 0.1), self.shade * np.float32(0.92))
        ear = ellipse(abs(x) - self.width - 0.01, y - 0.07, 0.085, 0.12)
        self.fill(ear, skin)
        self.fill(ear + 0.045, self.shade, soft=0.03)
        self.fill(skull, self.shade)
        self.fill(skull + 0.02, skin, soft=0.06)

    def cheeks_and_nose(self):
        x, y, n = self.x, self.y - 0.24, self.nose
        side = abs(x) - 0.31
        near = np.maximum(1 - 60 * (side * side + y * y), 0)
        self.paint(near * near * self.blush, self.skin * rgb((255, 140, 140)))
        dots = [disc(side - i, y + j, 0.016) for i, j in ((-0.06, 0.03), (0, 0), (0.06, 0.04))]
        dots = self.cover(reduce(np.minimum, dots)) * self.freckles_yes
        self.paint(dots, self.skin * rgb((180, 130, 110)))
        self.fill(ellipse(x, y + 0.055, n, n * 0.72), self.shade, soft=0.03)
        x = x + 0.15 * self.light * n
        self.fill(ellipse(x, y + 0.07, n * 0.8, n * 0.6), self.skin, soft=0.03)

    def lips(self):
        across = self.x / self.mouth_width
        bow, slope = 1 - across * across, 2 * across * self.smile / self.mouth_width
        top = self.y - 0.335 - self.smile * bow
        inside = np.maximum(-top, top - 0.13 * self.mouth_open * bow) / np.sqrt(1 + slope * slope)
        inside = np.maximum(inside, abs(self.x) - self.mouth_width)
        lips = inside - 0.024 - 0.016 * np.maximum(bow, 0)
        self.fill(lips, self.shade * np.float32(0.4) + rgb((124, 38, 46)))
        self.fill(inside - 0.012, rgb((104, 26, 38)))
        inside = inside + 0.016  # so that a closed mouth shows nothing
        self.fill(np.maximum(inside, disc(self.x, top - 0.17, 0.09)), rgb((232, 104, 112)))
        self.fill(np.maximum(inside, top - 0.045), WHITE)

    def eyes(self):
        side, y, a = abs(self.x) - self.eye_gap, self.y - 0.05, self.eye_size
        white = ellipse(side, y, a, a * self.eye_shape)
        self.fill(white - 0.02, self.shade, soft=0.03)
        self.fill(white, WHITE)
        x = np.where(self.x > 0, side, -side) - 0.03 * self.gaze  # both eyes look the same way
        ball = np.maximum(disc(x, y, a * 0.76), white)
        self.fill(ball, self.iris * np.float32(0.5))
        self.fill(ball + 0.02, self.iris)
        self.fill(disc(x, y, a * 0.45), rgb((22, 18, 24)))
        self.fill(disc(x + 0.04, y + 0.045, 0.036), WHITE)
        self.fill(np.maximum(abs(white) - 0.016, y + 0.25 * a), rgb((40, 28, 30)))

    def brows_and_glasses(self):
        side, y = abs(self.x) - self.eye_gap, self.y - 0.06
        line = y + 0.095 + self.eye_size * self.eye_shape - side * (1.6 * side + self.brow_tilt)
        weight = 1.2 * self.brow_weight * (1 - 36 * side * side)
        self.fill(np.maximum(abs(line) - weight, abs(side) - 0.15), self.dark_hair)
        a = self.eye_gap - np.float32(0.03)
        lens = box(side, y, a, a * 0.9, a * (0.3 + 0.59 * self.glasses_round))
        bridge = box(self.x, y + 0.03, 0.04, 0.018, 0.01)
        temple = box(side - a - 0.08, y + 0.05, 0.08, 0.018, 0.01)
        rim = reduce(np.minimum, (abs(lens) - 0.02, bridge, temple))
        self.paint(self.cover(rim) * (1 - self.glasses_none), self.frame)

    def lock(self, distance, colour=None):
        """Fill a shape of hair or wool; its dark edge parts it from skin, its shine rounds it."""
        colour = self.hair_colour if colour is None else colour
        self.fill(distance, colour * DARK)
        self.fill(distance + 0.025, self.lit(colour, colour * DARK), soft=0.03)
        band, spot = (distance + 0.12) / 0.05, (self.x + 0.3 * self.light) / 0.42
        shine = np.maximum(1 - band * band, 0) * np.maximum(1 - spot * spot, 0)
        self.paint(shine * np.maximum(-0.6 * self.y, 0), colour + (1 - colour) * np.float32(0.7))

    def cap(self, grow, fall):
        """Hair that hugs the skull above a line that falls from the parting to both sides."""
        side = self.x - self.parting
        line, slope = self.y - self.hairline - fall * side * side, 2 * fall * side
        return np.maximum(self.skull(grow), line / np.sqrt(1 + slope * slope))

    def balls(self, radius, *places):
        """Balls of hair on both sides, at the given parts of the skull's width and height."""
        x, y, w, h = abs(self.x), self.y, self.width, self.height
        return reduce(np.minimum, (disc(x - w * i, y + h * j, radius) for i, j in places))

    def mane(self):
        x, w = self.x * (1 - 0.12 * self.y), self.width
        return box(x, self.y - 0.2, w + 0.15, self.height + 0.32, w + np.float32(0.08))

    def hair(self, style):
        x, y, w, h = self.x, self.y, self.width, self.height
        if style == "bald":
            u, v = (x + 0.25 * self.light) / 0.2, (y + 0.42) / 0.08
            self.paint(np.maximum(1 - u * u - v * v, 0) * np.float32(0.3), WHITE)
        elif style == "short":
            tuft = ellipse(x + self.parting * 0.6, y + 0.55, 0.4, 0.2)
            self.lock(np.minimum(self.cap(0.08, 0.7), tuft))
        elif style == "curly":
            rim = [(1.02, -0.2), (1.12, 0.25), (0.92, 0.66), (0.5, 0.95), (0, 1.05)]
            afro = np.minimum(self.balls(0.24, *rim), ellipse(x, y + 0.14, w + 0.14, h))
            fringe = self.balls(0.14, (0.92, 0.3), (0.76, 0.52), (0.44, 0.66), (0.1, 0.72))
            opening = ellipse(x, y - 0.3, w, 0.76)
            self.lock(np.minimum(fringe, np.maximum(afro, -opening)))
            curls = abs(self.balls(0.12, (0.25, 0.95), (0.72, 0.82), (0.98, 0.45), (0.5, 0.72)))
            self.paint(self.cover(curls - 0.008, soft=0.02) * np.float32(0.4), self.dark_hair)
        elif style == "long":
            opening = ellipse(x - self.parting * 0.4, y - 0.4, w * 0.86, 0.84)
            self.lock(np.maximum(self.mane(), -opening))
        elif style == "buns":
            self.lock(np.minimum(self.cap(0.06, 0.9), disc(abs(x) - 0.45, y + 0.6, 0.22)))
        elif style == "beanie":
            self.lock(self.cap(0.04, 0.6))
            self.lock(disc(x, y + 0.76, 0.13), self.cloth)
            self.lock(np.maximum(ellipse(x, y + 0.22, w + 0.08, h - 0.08), y + 0.3), self.cloth)
            self.lock(box(x, y + 0.33, w + 0.08, 0.1, 0.08), self.cloth * np.float32(0.85))
