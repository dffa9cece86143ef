"""How to install what is optional.

progan is not published on PyPI, and anybody may take its name there. So all that is installed
comes from a clone, and no message or page may send people to that name."""


def how_to_install(extra: str) -> str:
    """The command that installs an extra of pyproject.toml, for messages."""
    return f"pip install '.[{extra}]' (in a clone of progan)"
