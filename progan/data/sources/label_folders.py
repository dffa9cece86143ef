"""Labels of images from the folders they lie in.

The classes are the first level of folders that is neither one folder around everything, nor parts
of a data set (train, val), nor numbered pieces of one size.
"""

import os
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

from progan.data.labels import Labels
from progan.data.sources.label_values import by_value, classes
from progan.runtime.errors import LabelError

# Words that name a part of a data set, and those for files: not what an image shows.
SPLIT = re.compile(
    r"(train(ing)?(val)?|trn|(mini)?val(id(at(e|ion|ing))?)?|dev(elop(ment)?)?|test(s|ing)?|tst"
    r"|eval(uat(e|ion))?)(set)?|h[oe]ld(out)?|out|(un)?label+ed|k?folds?|cv|splits?|(sub)?sets?"
    r"|part(ition)?s?|chunks?|batch(es)?|shards?|pieces?|vol(ume)?s?"
)
THINGS = ("train", "cv", "volume")  # a lone one may be a vehicle, a document or a book
IMAGES = re.compile("ima?ge?s?")
# `of` as in `train-00000-of-00005`.
FILES = re.compile("pic(ture)?s?|photos?|jpe?g|png|data(set)?|folder|dir|all|extra|of")
# Versions of the same images, as superresolution and translation need them.
VERSIONS = re.compile(
    r"[hl][rq]|sr|gt|low|high|(low|high)?res(olution)?|inputs?|targets?|originals?"
)
RANGE = re.compile(r"\d+ ?(-|_|to) ?\d+")  # 0-999
WORDS = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+")  # of `train_set`, `JPEGImages`, `trainA`
SIZE = re.compile(r"\d+x\d+")
# Folders of cameras (100CANON) and of days (2020-01-31).
SHOTS = re.compile(r"\d{3}[A-Z0-9_]{5}|(19|20)\d\d([-_. ]?[01]\d([-_. ]?[0-3]\d)?)?")
NUMBER, HEX = re.compile("[0-9]+"), re.compile("[0-9a-f]+")


def from_folders(where: object, names: Sequence[str], level: int | None = None) -> Labels:
    """From a level of folders, counted from 1 below a folder around all images.

    Args:
        level: which; None: the first whose folders may be classes.

    Raises:
        LabelError: images lie in no folder of this level, or all in one.
    """
    start = len(common_folder(names))
    paths = [name[start:].split("/")[:-1] for name in names]
    deepest = max(map(len, paths))
    passed: list[str] = []
    at = level or 1
    while level is None and at <= deepest and (why := why_no_classes(at_level(paths, at))):
        passed.append(why)
        at += 1
    folders = at_level(paths, at)
    loose = [name for name, folder in zip(names, folders, strict=True) if not folder]
    if loose:
        refuse_loose(where, names, loose, level, passed)
    labels = classes(folders, f"the {nth(at)} level of folders in {where}")
    doubts = [] if level else [*passed, doubts_about(labels.names) or doubts_below(paths, at)]
    doubt = "; ".join(filter(None, doubts))
    remedy = f"data.label_level={1 if passed else at + 1}"
    if not passed and at == deepest:
        remedy = "data.labels=false"
    doubt = doubt and f"{doubt}; if that is wrong, set {remedy}"
    doubt = ". ".join(filter(None, (labels.doubt, doubt)))
    return replace(labels, origin=f"the {nth(at)} level of folders", doubt=doubt)


def at_level(paths: Sequence[Sequence[str]], level: int) -> list[str]:
    """The folder of each image at a level; empty for an image above it."""
    return [path[level - 1] if level <= len(path) else "" for path in paths]


def why_no_classes(folders: Sequence[str]) -> str:
    """Why the folders of a level are no classes; empty if they may be."""
    counts = Counter(folders)
    found = sorted(filter(None, counts))
    if len(counts) == 1:
        return f"{found[0]} is around all images"
    if all(is_made_of(name, SPLIT, IMAGES, FILES) for name in found):
        return f"{listed(found)} are taken for parts of the data, all of which are used"
    if are_pieces(counts):
        return f"{listed(found)} are taken for pieces of the data, as their sizes are the same"
    return ""


def words(folder: str) -> list[str]:
    """The words in a folder's name, in small letters and without numbers."""
    return [word.lower() for word in WORDS.findall(SIZE.sub("", folder))]


def is_made_of(folder: str, *kinds: re.Pattern[str]) -> bool:
    """Whether there are words in a folder's name, all of these kinds."""
    found = words(folder)
    return bool(found) and all(any(kind.fullmatch(word) for kind in kinds) for word in found)


def are_pieces(counts: Counter[str]) -> bool:
    """Whether folders are numbered and hold the same number of images, the last one at most.

    Numbers without zeros in front are often classes; they are pieces if the last one is smaller.
    """
    found = sorted(counts, key=by_value)
    padded = are_padded(found)
    first, *between, last = (counts[name] for name in found)
    if padded:
        return set(between) <= {first} and last <= first
    return all(map(NUMBER.fullmatch, found)) and set(between) == {first} and last < first


def are_padded(names: Sequence[str]) -> bool:
    """Whether names are numbers of one width, with zeros in front; they may be hexadecimal."""
    same = len(set(map(len, names))) == 1 and len(names[0]) > 1
    return same and all(map(HEX.fullmatch, names)) and any(name[0] == "0" for name in names)


def doubts_about(names: Sequence[str]) -> str:
    """What the names of classes may be instead; empty if there is no doubt."""
    parts = [name for name in names if any(map(SPLIT.fullmatch, words(name)))]
    if len(parts) < 2:
        parts = [n for n in names if n.lower() not in THINGS and is_made_of(n, SPLIT, IMAGES)]
    if parts:
        part = "parts" if len(parts) > 1 else "a part"
        return f"{listed(parts)} may be {part} of the data rather than classes"
    if all(map(SHOTS.fullmatch, names)):
        return f"{listed(names)} may be when or how images were taken rather than classes"
    if all(is_made_of(name, VERSIONS, IMAGES) for name in names):
        return f"{listed(names)} may be versions of the same images rather than classes"
    pieces = are_padded(names) or all(map(RANGE.fullmatch, names))
    return f"{listed(names)} may be pieces of the data" if pieces else ""


def doubts_below(paths: Sequence[Sequence[str]], level: int) -> str:
    """What is odd about the folders of a level by those within; empty if nothing is.

    Parts of a data set under other names hold folders of the same names, which are the classes.
    """
    within: dict[str, set[str]] = {}
    for path in paths:
        within.setdefault(path[level - 1], set()).update(path[level : level + 1])
    counts = Counter(name for names in within.values() for name in names)
    shared = sorted(name for name, count in counts.items() if count > 1)
    if len(shared) < 2 or 2 * len(shared) < len(counts) or not all(within.values()):
        return ""
    if are_padded(shared) or any(is_made_of(name, SPLIT, IMAGES, FILES) for name in shared):
        return ""  # classes that are split themselves
    return f"{listed(sorted(within))} hold folders of the same names, {listed(shared)}"


def listed(names: Sequence[str]) -> str:
    """`a, b and c`; of many the first two and the last."""
    if len(names) > 4:
        return f"{names[0]}, {names[1]}, … {names[-1]}"
    return " and ".join(filter(None, (", ".join(names[:-1]), names[-1])))


def nth(level: int) -> str:
    return {1: "1st", 2: "2nd", 3: "3rd"}.get(level, f"{level}th")


def refuse_loose(
    where: object, names: Sequence[str], loose: list[str], level: int | None, passed: list[str]
) -> None:
    """Raises LabelError, as images lie in no class folder."""
    if passed and len(loose) == len(names):
        which = "them" if len(passed) == 1 else "the first of these"
        raise LabelError(
            f"data.labels: {'; '.join(passed)}; data.label_level=1 takes {which} as classes, or "
            "set data.labels=false"
        )
    how = (
        "lay them out as <class>/<image>, two or more folders, put a labels.csv or dataset.json "
        "next to them"
    )
    if passed:
        how += ", set data.label_level=1 if these are the classes after all"
    how += ", or set data.labels=false"
    lone = {name.rpartition("/")[0] for name in names}
    if level is None and lone != {""} and len(lone) == 1:
        raise LabelError(
            f"data.labels: all images of {where} lie in one folder, {lone.pop()}; {how}"
        )
    because = "".join(f"{why}; " for why in passed)
    kind = f"folder of the {nth(level)} level" if level else "class folder"
    raise LabelError(
        f"data.labels: {because}{len(loose)} of {len(names)} images of {where} lie in no {kind} "
        f"({loose[0]}); {how}"
    )


def common_folder(names: Sequence[str]) -> str:
    """The folder around all names, with a `/` at its end; empty if there is none."""
    prefix = os.path.commonprefix([min(names), max(names)])
    return prefix[: prefix.rfind("/") + 1]
