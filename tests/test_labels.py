"""Labels from tables next to the images, from arrays, and from folders."""

import json
import os
import re
import tracemalloc
import zipfile
from pathlib import Path

import numpy as np
import pytest
from pictures import folder, names, noise, tarred, zipped

from progan.data.epoch_order import spread
from progan.data.labels import Labels
from progan.data.sources import label_tables
from progan.data.sources.find import find
from progan.data.sources.label_folders import from_folders
from progan.data.sources.label_values import classes, from_array
from progan.runtime.errors import LabelError, UserError

PICTURE = noise((8, 8))


CLASSES = Labels(("a", "b", "c"), np.array([0, 0, 2, 0]))
ATTRIBUTES = Labels(("x", "y"), np.array([[1, 1], [0, 1], [1, 1]], np.uint8))


def test_counts_and_shares():
    """Reference: counted by hand; a class without images counts 0 and is named, an attribute that
    no image has is none of a kind that is missed."""
    assert (CLASSES.kind, ATTRIBUTES.kind) == ("classes", "attributes")
    assert CLASSES.counts.tolist() == [3, 0, 1] and CLASSES.shares.tolist() == [0.75, 0, 0.25]
    assert CLASSES.empty_classes == ["b"]
    assert ATTRIBUTES.counts.tolist() == [2, 3] and ATTRIBUTES.shares.tolist() == [2 / 3, 1]
    assert Labels(("x", "y"), np.zeros((3, 2), np.uint8)).empty_classes == []


def test_labels_of_some_images():
    """Reference: by hand."""
    some = np.array([2, 1])
    assert CLASSES.take(some).values.tolist() == [2, 0] and CLASSES.take(some).names == tuple("abc")
    assert CLASSES.matrix(some).tolist() == [[False, False, True], [True, False, False]]
    assert ATTRIBUTES.matrix(some).tolist() == [[True, True], [False, True]]
    assert CLASSES.alike(1).tolist() == [0, 1, 3] and ATTRIBUTES.alike(2).tolist() == [0, 2]


def test_labels_of_examples():
    """Reference: every class once, whatever the images have; or the attributes of the
    images that a grid of reals shows."""
    assert CLASSES.examples(2).values.tolist() == [0, 1, 2]
    rows = ATTRIBUTES.values[spread(len(ATTRIBUTES.values), 2)]
    assert ATTRIBUTES.examples(2).values.tolist() == rows.tolist()


THREE = dict.fromkeys(["a/1.png", "a/2.png", "b/3.png"], PICTURE)
CSV = "file,kind\nb/3.png,dog\na/1.png,cat\na\\2.png,dog\nabsent.png,mouse\n"
ONES = [["a/1.png", 7], ["b/3.png", 12], ["a/2.png", 7], ["absent.png", 3]]


def labelled(tmp_path, table, content, pictures=THREE):
    if not isinstance(content, str | bytes):
        content = json.dumps({"labels": content})
    return find(str(folder(tmp_path / "in", pictures | {table: content})), labels=True)


# --- tables ---


def test_csv_of_classes(tmp_path):
    """Reference: the table by hand: any order, `\\` for `/`, lines for absent files ignored."""
    source = labelled(tmp_path, "labels.csv", CSV)
    assert names(source) == ["a/1.png", "a/2.png", "b/3.png"]
    assert source.labels.names == ("cat", "dog") and source.labels.values.tolist() == [0, 1, 1]
    assert source.labels.values.dtype == np.int64


@pytest.mark.parametrize("off", ["0", "-1"])
def test_csv_of_attributes(tmp_path, off):
    """Reference: the table by hand, uint8 0 and 1, named by the header; a BOM, quotes, spaces."""
    text = f'\ufefffile,"Smiling, wide", glasses \na/1.png,1,{off}\n"a/2.png",{off},{off}\n\n'
    source = labelled(tmp_path, "labels.csv", text + "./b/3.png, 1 ,1\n")
    assert source.labels.names == ("Smiling, wide", "glasses")
    assert (
        source.labels.values.tolist() == [[1, 0], [0, 0], [1, 1]]
        and source.labels.values.dtype == np.uint8
    )


def test_numbers_are_sorted_as_such(tmp_path):
    """Reference: 2 < 10, where both are classes."""
    text = "file,digit\na/1.png,10\na/2.png,2\nb/3.png,10\n"
    source = labelled(tmp_path, "labels.csv", text)
    assert source.labels.names == ("2", "10") and source.labels.values.tolist() == [1, 0, 1]


@pytest.mark.parametrize(
    ("names", "doubt"),
    [
        ("Cat dog cat", "'Cat' and 'cat' are two classes; if they are one, give it one name"),
        ("1.0 2.0 1", "'1' and '1.0' are two"),
        ("07 7 8", "'07' and '7' are two"),
        ("1.0 2.0 10.0", ""),
        ("0 00x 0.5", ""),
        ("cat cat\u200b x", r"'cat' and 'cat\u200b' are two classes"),
        ("cafe\u0301 caf\u00e9 x", "are two classes"),  # as macOS and others write it
        ("NA x y", "'NA' is a class like others"),
        ("#N/A x y", "'#N/A' is a class like others"),
        ("na none y", ""),
    ],
)
def test_classes_that_may_be_one(names, doubt):
    """Reference: by hand. Names stay as they are written."""
    labels = classes(names.split(), "x")
    assert doubt in labels.doubt and bool(doubt) is bool(labels.doubt)
    assert set(labels.names) == set(names.split())


def test_json_of_numbers(tmp_path):
    """Reference: StyleGAN's format; classes are the numbers that occur, by name."""
    source = labelled(tmp_path, "dataset.json", ONES)
    assert source.labels.names == ("7", "12") and source.labels.values.tolist() == [0, 0, 1]
    for ways in ([7.0, 7, 12.0], ["7", " 7.0", "12"], ["cat ", "cat", "dog"]):
        pairs = zip(THREE, ways, strict=True)
        labels = labelled(tmp_path, "dataset.json", list(map(list, pairs))).labels
        assert labels.names == (("cat", "dog") if "cat" in ways else ("7", "12"))
        assert labels.values.tolist() == [0, 0, 1]
    pairs = zip(THREE, ["01", "1", "12"], strict=True)
    labels = labelled(tmp_path, "dataset.json", list(map(list, pairs))).labels
    assert labels.names == ("01", "1", "12") and "'01' and '1' are two classes" in labels.doubt


def test_json_of_lists(tmp_path):
    """Lists with exactly one 1 everywhere are classes, all others attributes."""
    one_hot = [["a/1.png", [0, 1, 0]], ["a/2.png", [0, 1, 0]], ["b/3.png", [1, 0, 0]]]
    source = labelled(tmp_path, "dataset.json", one_hot)
    assert source.labels.names == ("0", "1") and source.labels.values.tolist() == [1, 1, 0]
    minus = [[path, [2 * x - 1 for x in row]] for path, row in one_hot]
    assert labelled(tmp_path, "dataset.json", minus).labels.values.tolist() == [1, 1, 0]
    one_hot[0][1] = [0, 1.0, 1]
    source = labelled(tmp_path, "dataset.json", one_hot)
    assert source.labels.names == ("0", "1", "2") and source.labels.values.dtype == np.uint8
    assert source.labels.values.tolist() == [[0, 1, 1], [0, 1, 0], [1, 0, 0]]


@pytest.mark.parametrize("kind", ["folder", "zip", "tar"])
@pytest.mark.parametrize("around", ["", "set/images/"])
def test_tables_win_over_folders_at_the_top_or_beside(tmp_path, kind, around):
    """The same labels in a folder, zip and tar, with a folder around all images or not."""
    pictures = {around + name: picture for name, picture in THREE.items()}
    make = {"folder": folder, "zip": zipped, "tar": tarred}[kind]
    for table, content in (
        (around + "labels.csv", CSV),
        ("dataset.json", json.dumps({"labels": [[around + name, n] for name, n in ONES]})),
    ):
        path = tmp_path / table.replace("/", "-") / f"in.{kind}"
        source = find(str(make(path, {table: content} | pictures)), labels=True)
        assert len(source.labels.names) == 2
        expected = [0, 1, 1] if table.endswith("csv") else [0, 0, 1]
        assert source.labels.values.tolist() == expected and len(source) == 3
        assert len(find(str(path))) == 3 and find(str(path)).labels is None


def test_tables_in_a_class_folder_do_not_count(tmp_path):
    """Reference: a table below the folder of all images cannot speak of all of them."""
    source = labelled(tmp_path, "a/labels.csv", "nonsense")
    assert source.labels.names == ("a", "b") and source.labels.values.tolist() == [0, 0, 1]
    told = "1 as tables of labels that lie next to some images only (a/labels.csv)"
    assert source.left_out == told


def test_two_tables_are_refused(tmp_path):
    folder(tmp_path / "in", {"labels.csv": CSV})
    with pytest.raises(UserError, match="several tables of labels, dataset.json and labels.csv"):
        labelled(tmp_path, "dataset.json", ONES)


def test_names_in_any_alphabet(tmp_path):
    """An accent is one letter or two, as macOS writes it; both are the same name."""
    pictures = dict.fromkeys(["e\u0301.png", "рис.png", "絵 1.png"], PICTURE)
    text = "file,kind\n\u00e9.png,ö\nрис.png,日\n絵 1.png,日\n"
    source = labelled(tmp_path, "labels.csv", text, pictures)
    assert dict(zip(names(source), source.labels.values.tolist(), strict=True)) == {
        "e\u0301.png": 0,
        "рис.png": 1,
        "絵 1.png": 1,
    }
    assert source.labels.names == ("ö", "日")


HEAD = "file,kind\n"
REST = "a/2.png,x\nb/3.png,y\n"
BAD_TABLES = {
    "labels.csv": {
        "": "must open with a line of column names",
        "file\na\n": "must open with a line of column names.*it has 'file'",
        "file,a,a\n": "column names that differ",
        "file," + "a" * 300: "column names that differ",
        "file,kind,size\na/1.png,cat,1\n" + REST.replace("\n", ",0\n"): (
            "as all columns but the first must be, unless .*'cat' in column kind, line 2"
        ),
        HEAD + REST: r"labels.csv: 1 of 3 images have no line in it \(a/1.png\)",
        HEAD: r"3 of 3 images have no line in it \(a/1.png, a/2.png, b/3.png\)",
        HEAD + "a/1.png,x\n./a/1.png,x\n" + REST: r"1 images are in it more than once \(a/1.png\)",
        HEAD
        + "a/1.png, \n"
        + REST: r"1 of 3 images have no class .*a/1.png has an empty cell in column kind, line 2",
        HEAD + "a/1.png,x,y\n" + REST: "line 2 has 3 columns, and the header has 2",
        HEAD + "a/1.png,x\na/2.png,x\nb/3.png,x": "only one class, x",
        "file,p,q\na/1.png,1,yes\na/2.png,1,0\nb/3.png,1,2": (
            r"1 of 3 images .* neither 1 .*\(b/3.png\); b/3.png has '2' in column q, line 4"
        ),
        "file,p,q\na/1.png,1,-1\na/2.png,1,0\nb/3.png,1,1": "other than -1 .*q of a/2.png is 0",
        HEAD.encode() + b"a/1.png,\xff\n": "is not UTF-8",
        HEAD + 'a/1.png,"' + "x" * 200000 + '"\n': "no table that can be read",
    },
    "dataset.json": {
        "{": "no JSON that can be read",
        "[" * 100000: "no JSON that can be read",
        '{"labels": [["a/1.png", ' + "9" * 5000 + "]]}": r"can be read \(Exceeds .* 5000 digits\)",
        "[]": "has no labels",
        '{"labels": null}': "has no labels.*data.labels=false",
        '{"labels": {"a": 1}}': "must be a list of",
        '{"labels": [["a/1.png"]]}': "must be a list of",
        '{"labels": [[["a"], 1]]}': "must be a list of",
        '{"labels": [["a/1.png", 0]]}': "2 of 3 images have no line in it",
    },
}
BAD_JSON = {
    "no class number such as 0 or 7.*a/1.png has -1": [-1, 0, 0],
    "2 of 3 images have no class number .*a/2.png has None": [1, None, True],
    "1 of 3 images have no class number .*a/1.png has 'x'": ["x", 1, 1],
    "1 of 3 images have no class number .*b/3.png has 0.5": [0, 1, 0.5],
    "1 of 3 images have no class name .*a/2.png has ''": ["x", "", "y"],
    "no list of 2 0/1, as others .*b/3.png": [[0, 1], [1, 0], [0, 1, 0]],
    "no list of 2 0/1, as others .*a/1.png": [1, [1, 0], [0, 1]],
    r"no list of 2 0/1, as others \(a/2.png, b/3.png\)": [[0, 1], [1, 2], [1, "1"]],
    "only one class, 3": [3, 3, 3],
}


@pytest.mark.parametrize(
    ("table", "content"), [(table, text) for table, cases in BAD_TABLES.items() for text in cases]
)
def test_bad_tables(tmp_path, table, content):
    """Each says what is wrong in which file, and names the first that are wrong."""
    with pytest.raises(UserError, match=f"data.labels: .*{BAD_TABLES[table][content]}"):
        labelled(tmp_path, table, content)


@pytest.mark.parametrize("message", BAD_JSON)
def test_bad_values(tmp_path, message):
    with pytest.raises(UserError, match=message):
        pairs = zip(THREE, BAD_JSON[message], strict=True)
        labelled(tmp_path, "dataset.json", [list(pair) for pair in pairs])


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        ("1.png,x\n2.png,y\n3.png,y", "without folders"),
        ("a/1,x\na/2,y\nb/3,y", "without suffixes"),
        ("C:\\\\pics\\\\1.JPG,x\n2,y\nc/3,y", "without folders and suffixes"),
    ],
)
def test_names_without_folders_or_suffixes(tmp_path, lines, said):
    """Reference: the images that are meant, as no two have the same name; the labels say how."""
    source = labelled(tmp_path, "labels.csv", f"file,kind\n{lines}\n")
    assert source.labels.names == ("x", "y") and source.labels.values.tolist() == [0, 1, 1]
    assert source.labels.origin == f"{tmp_path / 'in' / 'labels.csv'}, by names {said}"


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        ("1,x\n2,y", r"\(a/1.png, b/1.png\); the table has '1' where 'a/1.png' is expected"),
        ("p,x\nq,y", "the table has 'p' where 'a/1.png' is expected"),
        ("a/1.png,x\np,y", r"\(b/1.png\); mend that"),
        ("a/1.png,x\nb/1.jpg,y\nb\\1.webp,y", r"more than once \(b/1.png\)"),
    ],
)
def test_names_that_do_not_match_are_shown_beside_each_other(tmp_path, lines, said):
    """Reference: names alone cannot tell images of two folders apart; if no line fits any image,
    the first is shown."""
    pictures = dict.fromkeys(["a/1.png", "b/1.png"], PICTURE)
    with pytest.raises(UserError, match=f"images (have no line|are) in it .*{said}"):
        labelled(tmp_path, "labels.csv", f"file,kind\n{lines}\n", pictures)


SPELLINGS = {  # of attributes 1, 0 and 0, 1 and 1, 0
    "pandas": "file,p,q\na/1.png,True,0.0\na/2.png,False,1.0\nb/3.png,True,0.0\n",
    "words": "file,p,q\na/1.png,yes,FALSE\na/2.png, No ,true\nb/3.png,YES,no\n",
    "digits": "file;p;q\na/1.png;1,0;0.000\na/2.png;0,0;+1\nb/3.png;1.00;0.\n",
    "minus": "file,p,q\na/1.png,1.0,-1\na/2.png,-1,1\nb/3.png,1,-1.0\n",
    "index": ",file,p,q\n0,a/1.png,1,0\n7,a/2.png,0,1\n9,b/3.png,1,0\n",
    "index read": "Unnamed: 0,file,p,q\n0,a/1.png,1,0\n7,a/2.png,0,1\n9,b/3.png,1,0\n",
    "files as index": ",p,q\na/1.png,1,0\na/2.png,0,1\nb/3.png,1,0\n",
    "Excel": '"file";"p";"q"\r\n"a\\1.png";1;0\r\na\\2.png;0;1\r\n\r\nb\\3.png;1;0',
    "names with marks": 'file;"p, 1";q\na/1.png;1;0\na/2.png;0;1\nb/3.png;1;0\n',
    "names with other marks": 'file,"p;1;2",q\na/1.png,1,0\na/2.png,0,1\nb/3.png,1,0\n',
    "line for Excel": "sep=;\r\nfile;p;q\r\na/1.png;1;0\r\na/2.png;0;1\r\nb/3.png;1;0\r\n",
    "blanks before quotes": '"file", "p", "q"\n"a/1.png", 1, "0"\na/2.png, 0, 1\nb/3.png,"1",0',
    "empty columns": "file,p,q,,\na/1.png,1,0,,\n,,,,\na/2.png,0,1,,\nb/3.png,1,0\n",
    "blanks around paths": "file,p,q\na/1.png ,1,0\n a/2.png,0,1\n b/3.png ,1,0\n",
    "old Macs": "file,p,q\ra/1.png,1,0\ra/2.png,0,1\rb/3.png,1,0",
}


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le"])
@pytest.mark.parametrize("text", SPELLINGS)
def test_tables_as_programs_write_them(tmp_path, text, encoding):
    """Reference: by hand."""
    tabs = SPELLINGS[text].replace(";" if text == "digits" else ",", "\t").replace(";", "\t")
    for table in (SPELLINGS[text], tabs):
        labels = labelled(tmp_path, "labels.csv", table.encode(encoding)).labels
        assert labels.names[0][0] == "p" and labels.names[1] == "q"
        assert labels.values.tolist() == [[1, 0], [0, 1], [1, 0]]
        assert labels.values.dtype == np.uint8


@pytest.mark.parametrize(
    ("cell", "said"),
    [
        ("", "an empty cell in column q, line 3"),
        ("NaN", "'NaN' in column q, line 3"),
        ("2", "'2'"),
        ('"x\ny"', r"'x\\ny'"),
        ("0.5", "'0.5'"),
    ],
)
def test_cells_that_are_no_attributes(tmp_path, cell, said):
    """Reference: the image, the column, the line and what was found there."""
    with pytest.raises(UserError, match=rf"1 of 3 images .*\(a/2.png\); a/2.png has {said}"):
        text = f"file,p,q\na/1.png,True,1\na/2.png,False,{cell}\nb/3.png,True,0\n"
        labelled(tmp_path, "labels.csv", text)


def test_a_table_without_header(tmp_path):
    """Reference: its first line is that of an image."""
    with pytest.raises(UserError, match="has no header: its first line is 'a/1.png,x'"):
        labelled(tmp_path, "labels.csv", "a/1.png,x\na/2.png,y\nb/3.png,y\n")


def test_many_faults_are_counted(tmp_path):
    """Three are named, all are counted."""
    pictures = {f"{i}.png": PICTURE for i in range(9)}
    with pytest.raises(UserError, match=r"7 of 9 images .*\(2.png, 3.png, 4.png, …\)"):
        labelled(tmp_path, "labels.csv", "file,kind\n0.png,a\n1.png,b\n", pictures)


def test_tables_that_cannot_be_read(tmp_path):
    """A table that a link leads nowhere from is an error, as are a folder and a pipe in its place,
    and one in a zip with a changed byte."""
    folder(tmp_path / "in", THREE)
    (tmp_path / "in" / "labels.csv").symlink_to("nowhere")
    with pytest.raises(UserError, match="cannot read .*No such file.*labels.csv"):
        find(str(tmp_path / "in"), labels=True)
    table = tmp_path / "in" / "labels.csv"
    for make in (Path.mkdir, os.mkfifo):
        table.rmdir() if table.is_dir() else table.unlink()
        make(table)
        with pytest.raises(UserError, match=r"cannot read .*labels\.csv"):
            find(str(tmp_path / "in"), labels=True)
        assert len(find(str(tmp_path / "in"))) == 3
    for method in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_LZMA):
        path = zipped(tmp_path / "in.zip", THREE | {"labels.csv": CSV}, method)
        content = bytearray(path.read_bytes())
        content[content.index(b"labels.csv") + 20] ^= 0x55
        path.write_bytes(content)
        with pytest.raises(UserError, match="data.labels: cannot read .*labels.csv"):
            find(str(path), labels=True)


BOMBS = {
    "many lines": ("labels.csv", CSV + "x,y\n" * 2**18, "more than 1,030 lines"),
    "empty lines": ("labels.csv", CSV + "\n" * 2**20, "more than 1,030 lines"),
    "a line": ("labels.csv", HEAD + "x" * 2**21, "line 2 of .* is longer than 65536 characters"),
    "a cell": ("labels.csv", HEAD + '"' + ("x" * 999 + "\n") * 200, "larger than field limit"),
    "many bytes": ("labels.csv", CSV + ("x" * 1000 + ",y\n") * 1000, "more than 112 kB"),
    "JSON": ("dataset.json", "[" + "[]," * 2**18, "more than 112 kB"),
    "deep JSON": ("dataset.json", "[" * 2**20, "more than 112 kB"),
}


@pytest.mark.parametrize("bomb", BOMBS)
@pytest.mark.parametrize("make", [folder, zipped, tarred])
def test_tables_too_large_for_their_images(tmp_path, monkeypatch, bomb, make):
    """Reference: refused after little memory, which is less than the table's own size."""
    table, content, said = BOMBS[bomb]
    monkeypatch.setattr(label_tables, "LINES", 1000)
    monkeypatch.setattr(label_tables, "LONGEST_LINE", 2**16)
    few = 10**5 if "kB" in said else 10**7
    monkeypatch.setattr(label_tables, "BYTES", {".csv": few, ".json": few})
    path = make(tmp_path / f"in.{make.__name__[:3]}", THREE | {table: content})
    tracemalloc.start()
    try:
        with pytest.raises(UserError, match=said):
            find(str(path), labels=True)
        assert tracemalloc.get_traced_memory()[1] < 2**20
    finally:
        tracemalloc.stop()


def test_a_table_of_a_larger_set(tmp_path):
    """Reference: three lines of 20,000, without keeping the others in memory."""
    content = CSV + "".join(f"other/{i}.png,cow\n" for i in range(20000))
    path = zipped(tmp_path / "in.zip", THREE | {"labels.csv": content})
    tracemalloc.start()
    try:
        assert find(str(path), labels=True).labels.values.tolist() == [0, 1, 1]
        assert tracemalloc.get_traced_memory()[1] < len(content)
    finally:
        tracemalloc.stop()


def test_key_follows_the_labels(tmp_path):
    """Another label, another class name, or none: another key. Another order of lines: the same."""
    path = folder(tmp_path / "in", THREE)

    def key(text):
        (path / "labels.csv").write_text(text)
        return find(str(path), labels=True).key

    swapped = CSV.replace("cat", "?").replace("dog", "cat").replace("?", "dog")
    keys = [key(CSV), key(swapped), key(CSV.replace("cat", "cow")), find(str(path)).key]
    assert len(set(keys)) == 4
    lines = CSV.splitlines()
    assert key("\n".join(lines[:1] + lines[:0:-1])) == keys[0]


# --- folders ---


def test_class_folders(tmp_path):
    """Labels need a folder a class: a message that says so names the first loose image."""
    path = folder(tmp_path / "in", THREE)
    assert find(str(path)).key != find(str(path), labels=True).key
    folder(path, {"loose.png": PICTURE})
    expected = r"1 of 4 .*\(loose.png\).*<class>/<image>.*labels.csv.*labels=false"
    with pytest.raises(UserError, match=expected):
        find(str(path), labels=True)
    assert len(find(str(path))) == 4


def test_a_folder_around_the_classes_is_no_class(tmp_path):
    """Reference: the same tree without it, in a folder, a zip and a tar."""
    pictures = {f"all/{name}/{i}.png": PICTURE for i in range(2) for name in ("ab", "ac")}
    for make in (folder, zipped, tarred):
        path = make(tmp_path / f"tree.{make.__name__[:3]}", pictures)
        source = find(str(path), labels=True)
        assert source.labels.names == ("ab", "ac")
        by_name = [source.labels.names.index(name.split("/")[-2]) for name in names(source)]
        assert source.labels.values.tolist() == by_name
    one = {name: picture for name, picture in pictures.items() if "/ab/" in name}
    with pytest.raises(UserError, match="lie in one folder, all/ab; lay them out .* two or more"):
        find(str(folder(tmp_path / "one", one)), labels=True)


def tree(*folders: str, images: int = 2) -> list[str]:
    """The names of some images in each of the folders; `*3` at a folder's end: so many."""
    counted = [(folder.partition("*") + (images,))[:4] for folder in folders]
    return [f"{name}/{i}.png" for name, _, n, _ in counted for i in range(int(n or images))]


LEVELS = {  # names: the classes, their level, and what is said of it
    ("train/cats", "train/dogs", "val/cats"): (
        ["cats", "dogs"],
        "2nd",
        "train and val are taken for parts .*all of which are used; .* set data.label_level=1$",
    ),
    ("Training_Set/a", "test-2/b", "VAL2017/b"): (["a", "b"], "2nd", "Training_Set, VAL2017 and t"),
    ("holdout/a", "trainval/b", "kfold1/b"): (["a", "b"], "2nd", "holdout, kfold1 and trainval"),
    ("data/images/a", "data/images/b"): (["a", "b"], "1st", "^$"),
    ("images/train/a", "images/val/b", "imgs/a"): (
        ["a", "train", "val"],
        "2nd",
        "val may be parts",
    ),
    ("train/img64x64/a", "val/img64x64/b"): (["a", "b"], "3rd", "and val .*; img64x64 is around"),
    ("00000/a", "00000/b", "01000/a*4", "02000/a"): (["a", "b"], "2nd", "00000, 01000 and 02000 "),
    ("cats/train", "cats/val", "dogs"): (["cats", "dogs"], "1st", "^$"),
    ("cats/kittens", "cats", "dogs/a/b"): (["cats", "dogs"], "1st", "^$"),
    ("cats/train", "cats/val", "dogs/train", "dogs/val"): (["cats", "dogs"], "1st", "^$"),
    ("cats/00", "cats/01", "dogs/00", "dogs/01"): (["cats", "dogs"], "1st", "^$"),
    ("prueba/a", "prueba/b", "uso/a", "uso/b", "uso/c"): (
        ["prueba", "uso"],
        "1st",
        "^prueba and uso hold folders of the same names, a and b; .* set data.label_level=2$",
    ),
    ("1", "2", "3"): (["1", "2", "3"], "1st", "^$"),
    ("100CANON", "101CANON"): (["100CANON", "101CANON"], "1st", "when or how"),
    ("2019-12-31", "2020-01", "2020"): (["2019-12-31", "2020", "2020-01"], "1st", "when or how"),
    ("1900s", "2020"): (["1900s", "2020"], "1st", "^$"),
    ("00*2", "01*3", "02*2"): (["00", "01", "02"], "1st", "may be pieces.*data.labels=false$"),
    ("trainA", "trainB", "testA", "testB"): (
        ["testA", "testB", "trainA", "trainB"],
        "1st",
        "testA, testB, trainA and trainB may be parts",
    ),
    ("00*2", "0a*2", "1f*3"): (["00", "0a", "1f"], "1st", "may be pieces"),
    ("images", "masks"): (["images", "masks"], "1st", "^images may be a part of"),
    ("train", "bus", "trail", "value"): (["bus", "trail", "train", "value"], "1st", "^$"),
    ("train/a", "test/a", "cow/b"): (["cow", "test", "train"], "1st", "set data.label_level=2$"),
    ("0-999", "1000-1999*1"): (["0-999", "1000-1999"], "1st", "may be pieces"),
    ("HR", "LR"): (["HR", "LR"], "1st", "^HR and LR may be versions of the same images"),
    ("high_res", "LowRes"): (["LowRes", "high_res"], "1st", "may be versions"),
    ("high tide", "low tide"): (["high tide", "low tide"], "1st", "^$"),
    ("photos", "drawings"): (["drawings", "photos"], "1st", "^$"),
    ("train-00000-of-00002/a", "train-00001-of-00002/b"): (
        ["a", "b"],
        "2nd",
        "are taken for parts",
    ),
    ("trainset/a", "testset/b", "minival/b"): (["a", "b"], "2nd", "trainset are taken for parts"),
    ("cv1/a", "Volume 2/b", "splits/b"): (["a", "b"], "2nd", "are taken for parts"),
    ("cv", "invoice", "letter"): (["cv", "invoice", "letter"], "1st", "^$"),
    ("bird of prey", "bird of paradise"): (["bird of paradise", "bird of prey"], "1st", "^$"),
}


@pytest.mark.parametrize("folders", LEVELS)
def test_the_level_of_folders_that_classes_come_from(folders):
    """Reference: what a person would take for the classes, and the doubts they would have."""
    names, level, doubt = LEVELS[folders]
    labels = from_folders("x", tree(*folders))
    assert list(labels.names) == names and labels.origin == f"the {level} level of folders"
    assert re.search(doubt, labels.doubt), labels.doubt


@pytest.mark.parametrize(
    ("folders", "said"),
    [
        (
            ("train", "val"),
            "^data.labels: train and val are .*; data.label_level=1 takes them as classes,",
        ),
        (("train/a", "val"), r"2 of 4 images of x lie in no class folder \(val/0.png\)"),
        (("train/a", "val/a"), "train and val .*; a is .*=1 takes the first of"),
        (("00", "01", "02*1"), "00, 01 and 02 are taken for pieces.*; data.label_level=1 takes"),
        (("0", "1", "10*1"), "0, 1 and 10 are taken for pieces"),
        (("0a", "f0", "ff"), "0a, f0 and ff are taken for pieces"),
    ],
)
def test_folders_that_are_no_classes(folders, said):
    """Reference: no labels, with the way to have them."""
    with pytest.raises(LabelError, match=f"{said}.* or set data.labels=false$"):
        from_folders("x", tree(*folders))
    if folders[0] in ("train", "00"):
        labels = from_folders("x", tree(*folders), level=1)
        assert labels.names == folders[:2] + tuple(f.partition("*")[0] for f in folders[2:])


def test_a_level_of_folders_can_be_chosen(tmp_path):
    """Reference: by hand; the config's setting does, and one that is not there is refused."""
    path = folder(tmp_path / "in", dict.fromkeys(tree("train/a", "train/b", "val/b"), PICTURE))
    for level, expected in ((1, ("train", "val")), (2, ("a", "b")), (None, ("a", "b"))):
        found = find(str(path), labels=True, label_level=level).labels
        assert found.names == expected and (found.doubt == "") is (level is not None)
    with pytest.raises(LabelError, match=r"6 of 6 images of .* lie in no folder of the 3rd level"):
        find(str(path), labels=True, label_level=3)


# --- arrays ---


@pytest.mark.parametrize("dtype", [np.uint8, np.int64, bool, np.float32])
def test_arrays_of_labels(dtype):
    """Reference: by hand. [N] and [N, 1] are classes; [N, K] one-hot or attributes."""
    numbers = np.array([1, 0, 1], dtype)
    for array in (numbers, numbers[:, None]):
        found = from_array(array, "x")
        assert found.names == ("0", "1") and found.values.tolist() == [1, 0, 1]
    found = from_array(np.array(["dog", "cat", "dog"]), "x")
    assert found.names == ("cat", "dog") and found.values.tolist() == [1, 0, 1]
    found = from_array(np.eye(3).astype(dtype), "x")
    assert found.names == ("0", "1", "2") and found.values.tolist() == [0, 1, 2]
    attributes = np.array([[1, 1], [0, 1], [0, 0]], dtype)
    for array in (attributes, 2.0 * attributes - 1):  # or -1 and 1
        found = from_array(array, "x")
        assert found.names == ("0", "1") and found.values.dtype == np.uint8
        assert found.values.tolist() == attributes.astype(int).tolist()


@pytest.mark.parametrize(
    "array", [np.array([-1, 0]), np.array([1j, 1]), np.ones((2, 3)) * 2, np.ones((2, 2, 2))]
)
def test_arrays_that_are_no_labels(array):
    with pytest.raises(UserError, match=r"the labels of x are .*class numbers from 0, integers \["):
        from_array(array, "x")
    with pytest.raises(UserError, match=r"1 of 2 images have no class number .*image 0 has 0.5"):
        from_array(np.array([0.5, 1]), "x")
