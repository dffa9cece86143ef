"""Names of metrics, which say the protocol: swd16k, msssim10k, fid50k, kid50k, is50k, pr50k."""

import re
from contextlib import suppress
from dataclasses import dataclass
from functools import cache

from progan.runtime.errors import UserError, nearest

FEWEST, MOST = 10, 1_000_000  # images
SMALLEST = 16  # resolution: SWD's last level, and five scales of MS-SSIM


@dataclass(frozen=True)
class Protocol:
    """A kind of metric.

    Args:
        standard: its name with the standard number of images.
        count: that number: of fakes (msssim: pairs).
        what: what it measures.
        better: "lower" or "higher"; None if neither is better by itself.
    """

    standard: str
    count: int
    what: str
    better: str | None = None


PROTOCOLS = {
    "swd": Protocol("swd16k", 16384, "sliced Wasserstein distance of patches", "lower"),
    "msssim": Protocol("msssim10k", 10000, "similarity of pairs of fakes: high is little variety"),
    "fid": Protocol("fid50k", 50000, "Fréchet Inception distance", "lower"),
    "kid": Protocol("kid50k", 50000, "kernel Inception distance", "lower"),
    "is": Protocol("is50k", 50000, "Inception score", "higher"),
    "pr": Protocol("pr50k", 50000, "precision and recall"),
}
REALS = {"swd": "floor", "msssim": "reals"}  # by kind: the ending of the reals' own value
STANDARD = {protocol.standard: kind for kind, protocol in PROTOCOLS.items()}


def parse(name: str) -> tuple[str, int]:
    """`"swd16k"` or `"swd"` -> ("swd", 16384); `"fid2000"`, `"FID-2k"` -> ("fid", 2000).

    As papers and StyleGAN3 write them: `fid50k_full` is `fid50k`, which takes all reals here, and
    `pr50k3` is `pr50k`, of 3 neighbours.

    Raises:
        ValueError: it names no protocol.
    """
    text = re.sub(r"-(?=\d+k)", "", name.lower().replace("ms-ssim", "msssim"))
    text = re.sub(r"^(fid\d+k?)_full$|^(pr\d+k)3$", r"\1\2", text)
    if text in STANDARD:
        return STANDARD[text], PROTOCOLS[STANDARD[text]].count
    match = re.fullmatch(r"([a-z]+)(?:(\d{1,9})(k?))?", text)
    if match and match[1] in PROTOCOLS:
        count = int(match[2]) * (1000 if match[3] else 1) if match[2] else PROTOCOLS[match[1]].count
        if FEWEST <= count <= MOST:
            return match[1], count
    raise ValueError(
        f"'{name}' is no metric{nearest(name, STANDARD)}; known: {', '.join(STANDARD)}, or with "
        f"another number of images, {FEWEST} to {MOST:,}, such as swd2000 or swd2k"
    )


def named(kind: str, count: int) -> str:
    """The metric's name for `count` images: the standard's for its own number only."""
    protocol = PROTOCOLS[kind]
    return protocol.standard if count == protocol.count else f"{kind}{count}"


def parse_list(text: str, num: int | None) -> list[str]:
    """Names of the metrics in `--metrics` and `--num`, each once.

    Raises:
        UserError: one is unknown.
    """
    try:
        found = [parse(name.strip()) for name in text.split(",")]
    except ValueError as error:
        raise UserError(f"--metrics: {error}") from None
    return list(dict.fromkeys(named(kind, num or count) for kind, count in found))


@cache
def canonical(name: str) -> str | None:
    """`"swd"` and `"swd16384"` -> `"swd16k"`, `"swd_floor"` -> `"swd16k_floor"`; or None."""
    if not re.fullmatch(r"[A-Za-z0-9-]{1,16}(_[a-z0-9_]{1,32})?", name):
        return None
    for base, ending in ((name, ""), name.partition("_")[::2]):  # fid50k_full is a whole name
        with suppress(ValueError):
            return "_".join(filter(None, (named(*parse(base)), ending)))
    return None


def parts(metric: str) -> tuple[str, int, str]:
    """`"swd16k_at_32"` -> ("swd", 16384, "at_32")."""
    base, _, ending = metric.partition("_")
    return *parse(base), ending


def better(metric: str) -> str | None:
    """Which direction is better, "lower" or "higher"; a level of a metric has that of the whole."""
    kind, _, ending = parts(metric)
    return PROTOCOLS[kind].better if re.fullmatch(r"(at_\d+)?", ending) else None


def is_whole(metric: str) -> bool:
    """Whether this is a protocol's main value, not a detail such as `swd16k_at_32`."""
    kind, _, ending = parts(metric)
    return ending in (("precision", "recall") if kind == "pr" else ("",))
