"""Passwords, keys and signatures in URLs, which no file and no message may show."""

import json
import sys

import pytest
from click.testing import CliRunner

from progan.cli.main import main
from progan.config.load import load_config
from progan.config.settings import PATHS
from progan.data.opening import find_data, open_data
from progan.metrics.reference_data import with_data
from progan.model.networks import Generator
from progan.runs.folder import base_name, read_config, record_start, write_config
from progan.runs.snapshot import Snapshot
from progan.runs.snapshot_file import load, save_snapshot
from progan.runtime.errors import UserError, brief, shown
from progan.runtime.secrets import bare, is_redacted, redact, redacted

SIGNED = "https://me:'SECRET@host/a-{000..146}.tar?X-Amz-Signature=SECRET/x&X-Amz-Date=1"


@pytest.mark.parametrize(
    "text, shown",
    [
        (SIGNED, "https://REDACTED@host/a-{000..146}.tar?REDACTED"),
        ("https://me:SEC@RET@host:80/a.tar", "https://REDACTED@host:80/a.tar"),
        ("https://SECRET@host/a.tar#token=SECRET", "https://REDACTED@host/a.tar#REDACTED"),
        ("s3://AKIA:1/SECRET/x+y@bucket/a-?.tar", "s3://REDACTED@bucket/a-?.tar"),
        ("s3://bucket/a.tar?versionId=SECRET", "s3://bucket/a.tar?REDACTED"),
        ("(400, url='https://h/a?sig=SECRET'); again", "(400, url='https://h/a?REDACTED'); again"),
        ("see https://h/a?SECRET, then", "see https://h/a?REDACTED, then"),
        ("--data 'HTTPS://h/a?k=SECRET' -o x=1", "--data 'HTTPS://h/a?REDACTED' -o x=1"),
        ("https://me:SEC'RET@host/a.tar?sig='SECRET'", "https://REDACTED@host/a.tar?REDACTED'"),
        ("{'a': 'https://me:SEC\"RET@host', 'b': 1}", "{'a': 'https://REDACTED@host', 'b': 1}"),
        ("https://h/a.tar%3FSig%3DSECRET", "https://h/a.tar%3FREDACTED"),
        ("https://h/a.tar?SIG=SECRET&se=1", "https://h/a.tar?REDACTED"),
        ("https://h/a.tar%23token=SECRET", "https://h/a.tar%23REDACTED"),
        ("s3://bucket/a.tar#token=SECRET", "s3://bucket/a.tar#REDACTED"),
        ("(https://h/a;k=SECRET/b.tar;t=SECRET)", "(https://h/a;REDACTED/b.tar;REDACTED)"),
        (
            "https://h/a%3Bk%3DSECRET/b.tar;t=SECRET?v",
            "https://h/a%3BREDACTED/b.tar;REDACTED?REDACTED",
        ),
        (r"https://h/a.tar?k=SECRET\u0026s=SECRET", "https://h/a.tar?REDACTED"),
        ("GET /a.tar?X-Goog-Signature=SECRET", "GET /a.tar?REDACTED"),
        ("u=https%3A%2F%2Fme%3ASECRET%40host%2Fa", "u=https%3A%2F%2FREDACTED%40host%2Fa"),
        ("https%3A%2F%2Fh%2Fa%3Fsig%3DSECRET&x", "https%3A%2F%2Fh%2Fa%3FREDACTED&x"),
        (r'"https:\/\/me:SECRET@h\/a?k=SECRET"', r'"https:\/\/REDACTED@h\/a?REDACTED"'),
        ("https://me:SECRET%40host/a.tar", "https://REDACTED@host/a.tar"),
        ("https://me:SEC%40RET@host/a.tar", "https://REDACTED@host/a.tar"),
        ("at https://me:SEC RET@host/a.tar", "at https://REDACTED@host/a.tar"),
        ("https://h/a.tar&sig=SECRET&se=SECRET", "https://h/a.tar&REDACTED&REDACTED"),
    ],
)
def test_secrets_are_left_out(text, shown):
    """Reference: by hand. What is left out stays left out, and `bare` has not even a mark of it."""
    assert redact(text) == redact(redact(text)) == shown
    assert bare(bare(text)) == bare(text) and "REDACTED" not in bare(text)
    assert redacted({"a": [text, 1, None]}) == {"a": [shown, 1, None]}
    assert str(UserError(text)) == shown and is_redacted(shown) == ("://" in shown)
    assert "SEC" not in brief(ValueError("x" * 190 + text))  # cut off after, not before


@pytest.mark.parametrize(
    "text, shown",
    [
        ("api_key=SECRET, x=1", "api_key=REDACTED, x=1"),
        ("'aws_secret_access_key': 'SECRET'", "'aws_secret_access_key': 'REDACTED'"),
        ("AccountName=me;AccountKey=SECRET==;E=x", "AccountName=me;AccountKey=REDACTED;E=x"),
        ("Authorization: Bearer SECRET", "Authorization: Bearer REDACTED"),
        ("'Authorization': 'Basic SECRET=='", "'Authorization': 'Basic REDACTED'"),
        ("sent Bearer SECRET.SECRET", "sent Bearer REDACTED"),
    ],
)
def test_keys_are_left_out(text, shown):
    """Reference: by hand."""
    assert redact(text) == redact(redact(text)) == shown


@pytest.mark.parametrize(
    "text",
    [
        "s3://bucket/train/a-??.tar",
        "http://localhost:9000/a@v1/x.tar",
        "hf://datasets/me/photos@main/a.tar",
        "abfs://container@account.dfs.core.windows.net/a.tar",
        "what? me@here.com: -o run.seed=1 (did you mean 'x?')",
        "file:///data/a:b@c/x.tar",
        "/data/REDACTED/photos",
        "memory://a;b.tar, file:///data/x;y=1/a.tar; z=1 #a=b",
        "see https://host/a.tar; seed=1",
        "/data/password=12345/a.png and me@here",
        "https://host:80 and me@here, https://host, me@here",
        "https://host: see me@here.com",
        "https%3A%2F%2Fhost%2Fa.tar, one bearer of 1,000 keys; api key: none",
        "http%3A%2F%2Fh" * 300,
        r"http:\/\/h" * 300,
        "api_" * 5_000,
        "https://host/what%3F/a%231.tar",
        "{'https://host:80','me@here','s3://a','abfs://me@there'}",
        "http://h" * 2_000,  # would take minutes without limits
        "://" * 5_000,
        "http://h" + ";a" * 10_000,
    ],
)
def test_what_is_no_secret_stays(text):
    """Reference: the text itself."""
    assert redact(text) == bare(text) == text and not is_redacted(text)


@pytest.mark.parametrize("start", range(0, len(SIGNED), 7))
@pytest.mark.parametrize("wrap", [str, lambda url: [url, {url: [url]}]])
def test_no_message_that_is_cut_has_secrets(start, wrap):
    """Reference: the secret. Where a long value loses its middle, what is left is no URL any more,
    so it is redacted before."""
    url = SIGNED + "x" * start
    assert "SECRET" not in shown(wrap(url)) and "SECRET" not in shown(wrap(f"{'y' * start} {url}"))


def test_no_file_of_a_run_has_secrets(tmp_path, monkeypatch):
    """Reference: the secret, looked for in what a start writes; the next one asks for the URL."""
    config = load_config("demo", {"data.source": SIGNED, "network.channel_max": 4})
    assert config.data.source == SIGNED
    monkeypatch.setattr(sys, "argv", ["progan", "train", "--data", SIGNED])
    record_start(tmp_path, {"device": "cpu"})
    write_config(tmp_path, config)
    files = {file.name: file.read_text() for file in tmp_path.iterdir()}
    assert len(files) == 2 and not [name for name, text in files.items() if "SECRET" in text]
    assert "https://REDACTED@host" in json.loads(files["starts.jsonl"])["command"]
    with pytest.raises(UserError, match="without its secrets, .*-o data.source="):
        open_data(read_config(tmp_path, []))
    G = Generator(**config.network.generator_settings())
    snapshot = Snapshot(tmp_path / "a.safetensors", G, config, 0, 8, None)
    save_snapshot(snapshot)
    assert b"SECRET" not in snapshot.file.read_bytes()
    assert "SECRET" not in json.dumps(config.shared())
    assert base_name(SIGNED) == base_name(bare(SIGNED)) == "a-000..146"


def test_a_snapshot_knows_no_places(tmp_path):
    """Reference: its bytes, in which no path lies; the name of a known data set stays."""
    places = {key: f"{tmp_path}/{key}" for key in PATHS}
    config = load_config("demo", places | {"network.channel_max": 4, "network.resolution": 16})
    G = Generator(**config.network.generator_settings())
    for given in (config, config.with_places({"data.source": "celeba"})):
        file = tmp_path / "a.safetensors"
        save_snapshot(Snapshot(file, G, given, 0, 8, None))
        assert str(tmp_path).encode() not in file.read_bytes()
        assert with_data(load(file), SIGNED, False).data.source == SIGNED  # no path is made of it
        kept = {key: value for key, value in load(file).config.places().items() if value}
        assert kept == ({} if given is config else {"data.source": "celeba"})


@pytest.mark.parametrize("source", ["/home/me/private", "http://169.254.169.254/{0..9}.tar?SECRET"])
def test_data_is_named_before_it_is_opened(source, tmp_path, monkeypatch):
    """Reference: the line that is there when opening fails at once. A run, a config or a snapshot
    may be somebody else's; what it opens here, and where it writes, is not done in silence."""
    monkeypatch.setattr("progan.data.sources.shard_list.open_store", failing)
    lines: list[str] = []
    settings = {"data.source": source, "data.cache": "/home/me/.ssh"}
    with pytest.raises(UserError):
        find_data(load_config(None, settings).data, say=lines.append)
    assert lines == [f"data: {redact(source)}; cache: /home/me/.ssh"]
    found = CliRunner().invoke(main, ["data", "info", source])
    assert found.exit_code == 2 and ("not opened" in found.output) == ("://" in source)


def failing(url):
    raise UserError("not opened")
