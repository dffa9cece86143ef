"""How numbers are said to people."""


def human_time(seconds: float | None) -> str:
    """`3d 4h`, `2h 05m`, `3m 20s`; a dash for an unknown time."""
    if seconds is None:
        return "-"
    minutes, s = divmod(round(seconds), 60)
    hours, m = divmod(minutes, 60)
    days, h = divmod(hours, 24)
    if days:
        return f"{days}d {h}h"
    if hours:
        return f"{h}h {m:02d}m"
    return f"{m}m {s:02d}s" if m else f"{s}s"
