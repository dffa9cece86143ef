"""Video files: pictures to .mp4, .gif, .webp or .apng, as they come."""

from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from progan.outputs.animations import Frames, write_apng, write_gif, write_webp
from progan.runtime.disk import write_atomically
from progan.runtime.errors import UserError
from progan.runtime.extras import how_to_install
from progan.runtime.provenance import Provenance

ANIMATIONS = {".gif": write_gif, ".webp": write_webp, ".apng": write_apng}
SUFFIXES = (".mp4", *ANIMATIONS)
CODEC = "libx264"
MOST_FPS = 60
MOST_GIF_FPS = 50  # viewers show shorter delays than 0.02 s as 0.1 s
MOST_SECONDS = 600  # so that all formats can hold the delays
MOST_SIDE = 8192  # pixels of a frame's side
BT709, LIMITED = 1, 1  # numbers in ITU-T H.273 and of ffmpeg's AVColorRange


def check_video(out: Path, fps: int, seconds: float, least: float = 0) -> int:
    """Checks that such a file can be written here, before any frame is made.

    Args:
        seconds: its length; at least `least`, and two frames.

    Returns:
        Its number of frames.

    Raises:
        UserError: the suffix is unknown, the format cannot have this rate or length, or the package
            or the codec for it is missing.
    """
    suffix = out.suffix.lower()
    if suffix not in SUFFIXES:
        raise UserError(f"--out {out} must end in one of {', '.join(SUFFIXES)}")
    most = MOST_GIF_FPS if suffix == ".gif" else MOST_FPS
    if not 1 <= fps <= most:
        raise UserError(f"--fps {fps}: give 1 to {most} frames a second for a {suffix}")
    frames, least = round(fps * seconds), max(least, 2 / fps)
    if frames < 2 or not least <= seconds <= MOST_SECONDS:
        raise UserError(f"--seconds {seconds:g}: give {least:.2g} to {MOST_SECONDS}")
    if suffix == ".mp4":
        av = library()
        try:
            av.codec.Codec(CODEC, "w")
        except ValueError:  # PyAV's UnknownCodecError
            raise UserError(
                f"--out {out}: the installed PyAV has no encoder for H.264 ({CODEC}); the one that "
                "pip install --force-reinstall --only-binary av av takes has it, and .webp, .gif "
                "and .apng need none"
            ) from None
    return frames


def check_size(width: int, height: int) -> None:
    """Raises UserError if frames would be larger than players can show."""
    if max(width, height) > MOST_SIDE:
        raise UserError(
            f"frames would have {width:,}x{height:,} pixels, and a side may have {MOST_SIDE:,}; "
            "give a smaller --grid or --scale"
        )


def library() -> ModuleType:
    """PyAV.

    Raises:
        UserError: it is not installed.
    """
    try:
        return import_module("av")
    except ImportError:
        raise UserError(
            f"an .mp4 needs PyAV: {how_to_install('video')}; .webp, .gif and .apng need nothing"
        ) from None


def counted(frames: Frames, done: Callable[[int], object]) -> Frames:
    """The same frames; tells a progress bar of each picture that has been taken."""
    for frame in frames:
        yield frame
        done(1)


def write_video(out: Path, frames: Frames, fps: int, made_by: Provenance) -> None:
    """Write pictures, all of one size, in the format of the path's suffix: whole or not at all.

    Memory does not grow with their number.

    Args:
        frames: pictures uint8 [H, W, 3], and for how many frames each is shown.
        made_by: what the file says of itself; in an .mp4 and a .gif as a comment.

    Raises:
        DiskError: it could not be written.
    """

    def write(temporary: Path) -> None:
        if out.suffix.lower() == ".mp4":
            write_mp4(temporary, frames, fps, made_by)
            return
        with open(temporary, "wb") as file:
            ANIMATIONS[out.suffix.lower()](file, frames, fps, made_by)

    write_atomically(out, write)


def write_mp4(path: Path, frames: Frames, fps: int, made_by: Provenance) -> None:
    """H.264 that all players show: 4:2:0, even sides, and the index before the frames.

    Raises:
        OSError: ffmpeg cannot write it.
    """
    av = library()
    try:
        options = {"movflags": "faststart"}
        with av.open(f"file:{path}", "w", format="mp4", options=options) as file:
            file.metadata["comment"] = f"{made_by.text}; {made_by.source_type}"
            stream: Any = None
            shown = 0
            for pixels, count in frames:
                even = with_even_sides(pixels)
                stream = stream or add_stream(file, even, fps)
                frame = av.VideoFrame.from_ndarray(even, format="rgb24")
                colours = {"dst_colorspace": BT709, "dst_color_range": LIMITED}
                frame = frame.reformat(format="yuv420p", **colours)
                for _ in range(count):
                    frame.pts = shown
                    file.mux(stream.encode(frame))
                    shown += 1
            file.mux(stream.encode(None))
    except av.error.FFmpegError as error:
        raise OSError(error.errno, error.strerror) from error  # `write_atomically` names the file


def add_stream(file: Any, pixels: np.ndarray, fps: int) -> Any:
    # Losses at 18 cannot be seen. Colours are BT.709, as players assume where a file says nothing.
    stream = file.add_stream(CODEC, rate=fps, options={"crf": "18"})
    stream.height, stream.width, _ = pixels.shape
    stream.pix_fmt = "yuv420p"
    context = stream.codec_context
    context.colorspace = context.color_primaries = context.color_trc = BT709
    context.color_range = LIMITED
    return stream


def with_even_sides(pixels: np.ndarray) -> np.ndarray:
    """Repeats the last column and row where their number is odd: colours are stored for 2x2."""
    height, width, _ = pixels.shape
    if height % 2 or width % 2:
        pixels = np.pad(pixels, ((0, height % 2), (0, width % 2), (0, 0)), "edge")
    return np.ascontiguousarray(pixels)
