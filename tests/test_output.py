"""Output: what may reach a terminal, and what happens when nothing can be printed any more."""

import errno
import io
import sys

import numpy as np
import pytest

from progan.config.settings import DataConfig
from progan.data.info.report import label_table
from progan.data.labels import Labels
from progan.data.opening import described
from progan.data.sources.names import LeftOut
from progan.doctor.finding import anonymous
from progan.runtime import output
from progan.runtime.cache import default_cache
from progan.runtime.errors import UserError
from progan.runtime.output import (
    MOST_KEPT,
    Output,
    guard_output,
    harmless,
    keep_unprinted,
    output_outlived,
)


class Gone(io.StringIO):
    """A stream whose other end is gone."""

    error = errno.EPIPE

    def write(self, text):
        raise OSError(self.error, "gone")


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("Zoë\t猫 👩\u200d🚀 a\u3000b\r\nnext\n", None),
        ("\r 50%|████ | 3.1/6.2 kimg", None),  # a frame of a progress bar
        ("\x1b[31mred\x1b]0;title\x07", "\\x1b[31mred\\x1b]0;title\\x07"),
        ("\x9b2J\x7f\x08\x00\x0b", "\\x9b2J\\x7f\\x08\\x00\\x0b"),
        ("s3://key:word@bucket/a.tar\n", "s3://REDACTED@bucket/a.tar\n"),
        ("ok\rError: no", "ok\\rError: no"),
        ("photo\u202egnp.exe\u2066\u200f", "photo\\u202egnp.exe\\u2066\\u200f"),
        ("a\u2028b\x85c\udcff", "a\\u2028b\\x85c\\udcff"),
    ],
)
def test_nothing_printed_controls_the_terminal(text, shown):
    """Reference: ECMA-48's C0 and C1, Unicode's marks of direction and line, written as Python
    writes them; all other text, and what progress bars need, stays byte for byte."""
    stream = io.StringIO(newline="")
    output = Output(stream, "standard output", needed=True)
    assert output.write(text) == len(text)
    assert stream.getvalue() == (text if shown is None else shown)
    assert harmless(harmless(text)) == harmless(text)


@pytest.mark.parametrize(("error", "code"), [(errno.EPIPE, 141), (errno.ENOSPC, None)])
def test_a_command_without_output_ends(error, code, monkeypatch):
    """Reference: 128 + SIGPIPE, as Unix tools end in `| head`, without a message; another reason is
    said. Standard error alone ends nothing."""
    stream = Gone()
    monkeypatch.setattr(stream, "error", error, raising=False)
    with pytest.raises(SystemExit if code else UserError) as stopped:
        Output(stream, "standard output", needed=True).write("figures\n")
    if code:
        assert stopped.value.code == code
    else:
        assert str(stopped.value) == "standard output cannot be written: gone"
    assert Output(stream, "standard error", needed=False).write("progress\n") == 9


def test_a_run_outlives_its_output_and_keeps_it(tmp_path, monkeypatch):
    """Reference: every line in order, once, after a line that says why; no frames of bars. What
    comes before there is a file waits for it. Afterwards the streams are as before."""
    file = tmp_path / "unprinted.txt"
    before, out, err = (sys.stdout, sys.stderr), Gone(), io.StringIO()
    monkeypatch.setattr(sys, "stdout", out)
    monkeypatch.setattr(sys, "stderr", err)
    with output_outlived():
        print("first")
        print("to standard error", file=sys.stderr)
        keep_unprinted(file)
        print("second", flush=True)
        sys.stdout.write("\r 50%")
        err.close()  # prints raise ValueError now
        print("third", file=sys.stderr)
    assert (sys.stdout, sys.stderr) == (out, err) != before
    reason, *lines = file.read_text().splitlines()
    assert "standard output cannot be written: gone; what it does not show is kept here" in reason
    assert lines[:2] == ["first", "second"] and lines[-1] == "third"
    assert "standard error cannot be written" in lines[-2] and len(lines) == 4


def test_names_forge_no_lines():
    """Reference: one line for each call that means one, with the newline written out."""
    forged = "cats\nError: all is well"
    labels = Labels((forged, "dogs"), np.array([0, 0]), origin=forged)
    texts = [*labels.provenance, *labels.empty_classes, described(DataConfig(source=forged))]
    texts += [line for line in label_table(labels) if "cats" in line]
    assert len(texts) == 5 and not any("\n" in text for text in texts)
    left_out = LeftOut()
    left_out.add("hidden", forged)
    assert "\n" not in str(left_out) and labels.names[0] == forged


def test_a_user_without_a_home(monkeypatch):
    """Reference: a container's user without HOME and without an entry in /etc/passwd. Reports of
    progan doctor name nobody then."""
    for name in ("HOME", "PROGAN_CACHE", "XDG_CACHE_HOME", "LOGNAME", "USER", "LNAME", "USERNAME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("pwd.getpwuid", {}.__getitem__)
    with pytest.raises(UserError, match=r"no home folder.*set \$PROGAN_CACHE to a folder"):
        default_cache()
    assert anonymous("about ~ 3 %") == "about ~ 3 %"


def test_what_waits_for_the_disk_is_bounded(monkeypatch, tmp_path):
    """Reference: the last 100,000 characters, when the disk has room again."""

    def full(*_):
        raise OSError(errno.ENOSPC, "full")

    with monkeypatch.context() as patch:
        patch.setattr(output, "append", full)
        unprinted = output.Unprinted()
        unprinted.keep(tmp_path / "file")
        for i in range(MOST_KEPT // 4):
            unprinted.add(f"{i:06d}\n", "")
    unprinted.keep()
    text = (tmp_path / "file").read_text()
    assert len(text) == MOST_KEPT and text.endswith("024998\n024999\n")


def test_output_that_is_closed_from_the_start(monkeypatch):
    """Reference: Python's `None` for a closed stream; printing is then silent. Guarding again adds
    nothing, and no library gets round it by the buffer."""
    monkeypatch.setattr(sys, "stdout", None)
    monkeypatch.setattr(sys, "stderr", io.TextIOWrapper(io.BytesIO(), encoding="latin-1"))
    guard_output()
    guarded = sys.stdout, sys.stderr
    guard_output()
    assert (sys.stdout, sys.stderr) == guarded
    print("nothing")
    print("猫", file=sys.stderr, flush=True)
    assert sys.stderr.stream.buffer.getvalue() == b"\\u732b\n"
    assert not hasattr(sys.stderr, "buffer") and sys.stderr.encoding == "latin-1"
    sys.stdout.stream.close()
