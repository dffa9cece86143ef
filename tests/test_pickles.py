"""The reader of other projects' pickles: what it builds, and what it refuses."""

import collections
import io
import os
import pickle
import struct
import sys
import tracemalloc
import types

import numpy as np
import pytest

from progan.interop.pickles import PickleReader, Stub
from progan.runtime import pickles
from progan.runtime.pickles import UnknownNameError

DTYPE = b"cnumpy\ndtype\n(X\x02\x00\x00\x00f4K\x00K\x01tR"  # without the state
BLANK = b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\nK\x00\x85C\x01btR"


def build(content: bytes, **known: object) -> object:
    return PickleReader(io.BytesIO(content), len(content), **known).build()


@pytest.fixture
def network(monkeypatch):
    """The class tfutil.Network, whose objects keep their attributes; for writing only."""
    kinds = {}
    for module, name, bases in (("tfutil", "Network", ()), ("config", "EasyDict", (dict,))):
        kinds[name] = type(name, bases, {"__module__": module})
        monkeypatch.setitem(sys.modules, module, types.ModuleType(module))
        setattr(sys.modules[module], name, kinds[name])
    return kinds


@pytest.mark.parametrize("protocol", range(6))
def test_plain_data_is_what_pickle_loads(network, protocol):
    """Reference: what was pickled, by Python's own pickle; arrays of each order and dtype."""
    of_all = {
        "texts": ["", "läge", b"\x00\xff".decode("latin1")],
        "numbers": (1, -2, 2**40, 2**90, 1.5, True, False, None),
        "bytes": bytes(range(256)),
        "options": network["EasyDict"](func="G_paper", more=[1, [2]]),
        "ordered": collections.OrderedDict(a=1, b=(2, 3)),
        "scalar": np.float32(2.5),
        "arrays": [np.arange(6, dtype=d).reshape(2, 3) for d in ("<f4", ">f8", "u1", "<i8", "f2")],
        "fortran": np.asfortranarray(np.arange(12.0).reshape(3, 4)),
        "strided": np.arange(12.0)[::2],
        "flag": np.array(True),
    }
    it = network["Network"]()
    it.content = of_all
    content = pickle.dumps(it, protocol)
    if protocol == 0:  # bytes stand there as text
        content = content.replace(b"numpy._core", b"numpy.core")
    found = build(content)
    assert isinstance(found, Stub) and found.name == "tfutil Network"
    np.testing.assert_equal(found.state["content"], of_all)
    for array, wanted in zip(found.state["content"]["arrays"], of_all["arrays"], strict=True):
        assert array.dtype.newbyteorder("=") == wanted.dtype.newbyteorder("=")


def test_python_2_wrote_bytes_as_text(network):
    """Reference: the bytes of an array in a BINSTRING, as Python 2's protocol 2 has them."""
    raw = np.array([[1.5, -2.0]], "<f4").tobytes()
    state = b"(K\x01K\x01K\x02\x86" + DTYPE + b"(K\x03U\x01<NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK"
    state += b"\x00tb\x89T" + struct.pack("<i", len(raw)) + raw + b"t"
    array = BLANK.replace(b"C\x01b", b"U\x01b") + state + b"b"
    old_style = b"(inetwork\nNetwork\n}U\x06valuesq\x01" + array + b"sb"
    found = build(b"\x80\x02" + old_style + b".")
    assert found.name == "network Network"
    np.testing.assert_array_equal(found.state["values"], [[1.5, -2.0]])


class Runs:
    """Would make a file if it were loaded by pickle."""

    def __reduce__(self):
        return os.mkdir, ("was-run",)


def wide(once: bytes, times: int = 2000) -> bytes:
    return b"(" + once * times + b"t."


HOSTILE = {
    "code": pickle.dumps(Runs()),
    "eval": b"c__builtin__\neval\n(X\x0b\x00\x00\x00print(3**9)tR.",
    "an instance": b"(X\x01\x00\x00\x00aios\nsystem\n.",
    "memory by bytearray": b"cbuiltins\nbytearray\n(J\x00\x00\x00\x7ftR.",
    "a call of an array": BLANK + b"(tR.",
    "an array of objects": b"cnumpy\ndtype\n(X\x02\x00\x00\x00O8K\x00K\x01tR.",
    "a dtype by a tuple": b"cnumpy\ndtype\n((K\x01K\x01ttR.",
    "an array beyond the file": BLANK + b"(K\x01J\xff\xff\xff\x7f\x85" + DTYPE + b"\x89C\x00tb.",
    "a shape below zero": BLANK + b"(K\x01J\xff\xff\xff\xff\x85" + DTYPE + b"\x89C\x00tb.",
    "a huge length": b"\x8e" + struct.pack("<Q", 2**62) + b"a.",
    "a long length": b"B" + struct.pack("<I", 2**32 - 1) + b"a.",
    "a long text": b"X" + struct.pack("<I", 2**32 - 1) + b"a.",
    "a list in itself": b"]q\x00h\x00a.",
    "lists that unfold": b"]q\x00(" + b"h\x00h\x00tq\x00(" * 20 + b".",
    "deep keys": b"K\x01" + b"\x85" * 9_000 + b"}" + b"K\x01ss.",
    "a deep key": b"}K\x01" + b"\x85" * 9_000 + b"K\x01s.",
    "a deep name": b"K\x01" + b"\x85" * 9_000 + b"X\x01\x00\x00\x00a\x93.",
    "a deep dtype": b"cnumpy\ndtype\nK\x01" + b"\x85" * 9_000 + b"R.",
    "copies of a part": b"X" + struct.pack("<I", 10**6) + b"a" * 10**6 + b"q\x00"
    + wide(b"c_codecs\nencode\nh\x00X\x06\x00\x00\x00latin1\x86R"),
    "items that unfold": b"ccollections\nOrderedDict\nX" + struct.pack("<I", 10**6) + b"a" * 10**6
    + b"q\x00" + wide(b"h\x00")[:-1] + b"\x85R.",
    "too many operations": b"N" * 10_001 + b".",
    "a digit too many": b"I" + b"9" * 10_000 + b"\n.",
    "nothing": b"",
    "no end": b"N",
    "no value": b".",
    "a mark without items": b"(.",
    "items without a mark": b"]e.",
    "more than there is": b"K\x01\x87.",
    "state of a number": b"K\x01}b.",
    "a persistent id": b"K\x01Q.",
    "a deep persistent id": b"K\x01" + b"\x85" * 9_000 + b"\x85Q.",
    "an extension": b"\x82\x01.",
    "a memo without content": b"h\x05.",
}  # fmt: skip


@pytest.mark.parametrize("case", HOSTILE)
def test_hostile_pickles_are_refused(case, tmp_path, monkeypatch):
    """Reference: the idea of each case. It is refused, nothing is run, and no more memory is taken
    than a few times what the file has."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(pickles, "MOST_OPERATIONS", 10_000)
    tracemalloc.start()
    try:
        with pytest.raises(Exception) as raised:  # noqa: PT011  # whatever damage raises
            build(HOSTILE[case], persistent={}.__getitem__)
        assert tracemalloc.get_traced_memory()[1] < 40e6
    finally:
        tracemalloc.stop()
    assert not [*tmp_path.iterdir()]
    assert not isinstance(raised.value, MemoryError | RecursionError)
    assert len(str(raised.value)) < 300


def test_an_unknown_name_is_said():
    """Reference: the name in the pickle."""
    with pytest.raises(UnknownNameError, match=r"dnnlib\.tflib\.network\.Network"):
        build(b"cdnnlib.tflib.network\nNetwork\n.")
