"""For mkdocs: files next to docs/ become part of the site, so links to them are checked."""

import re
from pathlib import Path
from typing import Any

from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File, Files

LOADED = re.compile(r"<(?:script|img|link|iframe)\b[^>]*\b(?:src|href)=[\"']?(?:https?:)?//[^>]*>")
ROOT = Path(__file__).parent.parent
PAGES = ("README.md", "CHANGELOG.md", "CONTRIBUTING.md", "LICENSE")
OUTSIDE = (*PAGES, "samples/*", "examples/*", "configs/*")


def on_files(files: Files, config: Any) -> Files:
    """README is the first page; other files keep their places."""
    for path in sorted(path for pattern in OUTSIDE for path in ROOT.glob(pattern)):
        place = path.relative_to(ROOT).as_posix().removeprefix("README.md") or "index.md"
        files.append(File.generated(config, place, abs_src_path=str(path)))
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """In the site, the pages of docs/ are where README is."""
    if page.file.src_uri == "samples/README.md":
        return markdown.replace("](../docs/", "](../")
    return (
        markdown.replace("](docs/", "](")
        .replace("](../", "](")
        .replace("](README.md", "](index.md")
    )


def on_post_page(output: str, page: Any, **_: Any) -> str:
    """Nothing is loaded from other hosts, so the site works without a network and tells nobody."""
    if found := LOADED.search(output):
        raise PluginError(f"{page.file.src_uri} loads from another host: {found[0]}")
    return output
