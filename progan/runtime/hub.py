"""Models on the Hugging Face Hub: one file of a model comes from there, and files go there.

All is done by huggingface_hub, with the login that it has of the user. No token is read here.
"""

import logging
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from progan import __version__
from progan.runtime.errors import UserError, brief
from progan.runtime.text import human_bytes

if TYPE_CHECKING:
    from huggingface_hub import HfApi

log = logging.getLogger("progan")

SCHEME = "hf://"
# A revision becomes a path in huggingface_hub's cache; no name of git's has two dots in a row.
SHAPE = re.compile(r"(?P<model>[\w.-]+/[\w.-]+)(?:@(?P<revision>(?!.*\.\.|/)[\w./-]+))?", re.ASCII)
# What the Hub counts downloads by.
LIBRARY: dict[str, Any] = {"library_name": "progan", "library_version": __version__}


def is_on_hub(path: Path) -> bool:
    """Whether a path stands for `hf://user/model`; as a Path it has one slash."""
    return path.parts[:1] == ("hf:",) and not path.exists()


def parts(path: Path) -> tuple[str, str | None]:
    """`user/model`, and a branch, tag or commit if the path ends in `@revision`.

    Raises:
        UserError: it has another shape.
    """
    text = "/".join(path.parts[1:])
    match = SHAPE.fullmatch(text)
    if not match:
        what = f"{SCHEME}{text} is no model" if text else "the name of the model is empty"
        raise UserError(f"{what}; give {SCHEME}USER/MODEL or …/MODEL@REVISION")
    return match["model"], match["revision"]


def model_name(text: str) -> str:
    """`user/model` of a model to be written.

    Raises:
        UserError: it has another shape, or a revision, which only reading can choose.
    """
    path = Path(f"{SCHEME}{text.removeprefix(SCHEME)}")
    if not SHAPE.fullmatch("/".join(path.parts[1:])):
        what = f"{text} is no name of a model on the Hub" if text else "the model's name is empty"
        raise UserError(f"{what}; give USER/MODEL, such as me/faces")
    name, revision = parts(path)
    if revision:
        raise UserError(f"{SCHEME}{name}@{revision}: a model is written without @REVISION")
    return name


def fetch(path: Path, name: str, most: int) -> Path:
    """The file of this name in a model, in huggingface_hub's cache. No other file is fetched.

    What is in the cache and has not changed is not downloaded again; without a network it is taken
    as it is.

    Args:
        path: stands for `hf://user/model` or `hf://user/model@revision`.
        most: bytes that it may have.

    Raises:
        UserError: it is not to be had, or is larger.
    """
    from huggingface_hub import hf_hub_download

    model, revision = parts(path)
    with explained(model, revision, name):
        about = hf_hub_download(model, name, revision=revision, dry_run=True, **LIBRARY)
        if about.file_size > most:
            raise UserError(
                f"{name} of {SCHEME}{model} is to have {human_bytes(about.file_size)}; progan "
                f"reads {human_bytes(most)} at most, and a network at 1024x1024 has 92 MB"
            )
        if not about.will_download:
            return Path(about.local_path)
        log.info(f"downloading {name} of {SCHEME}{model}: {human_bytes(about.file_size)}")
        return Path(hf_hub_download(model, name, revision=revision, **LIBRARY))


def put(model: str, files: Mapping[str, bytes | Path], private: bool, once: str) -> str:
    """Upload files as one commit, into a new model or one of the user's.

    Args:
        model: `user/model`.
        files: by their names there. Those of the same name are replaced, and stay in the history.
        private: whether a new model is. One that is there must be so already.
        once: the name of a file that is not replaced, as people may have written in it.

    Returns:
        A line for the user.

    Raises:
        UserError: there is no login, no right, no network, or the model is public.
    """
    from huggingface_hub import CommitOperationAdd, HfApi

    api = HfApi(**LIBRARY)
    with explained(model, None, once):
        there = names_in(api, model, private)
        if there is None:
            api.create_repo(model, private=private)
        kept = once in files and once in (there or ())
        sent = {name: content for name, content in files.items() if not (kept and name == once)}
        additions = [CommitOperationAdd(name, content) for name, content in sent.items()]
        done = api.create_commit(model, additions, commit_message=f"By progan {__version__}")
    old = [name for name in sent if name in (there or ())]
    notes = [f"{', '.join(old)} replaced; the history keeps the old"] * bool(old)
    notes += [f"its own {once} is left as it is"] * kept
    return f"{done.repo_url}: {', '.join(sent)}" + "".join(f"; {note}" for note in notes)


def names_in(api: "HfApi", model: str, private: bool) -> set[str] | None:
    """The files of a model of the user's; None if there is no such model.

    Raises:
        UserError: there is no login; or the model is public, and `private` is asked for.
    """
    from huggingface_hub.errors import RepositoryNotFoundError

    api.whoami()
    try:
        found = api.model_info(model)
    except RepositoryNotFoundError:
        return None
    if private and not found.private:
        raise UserError(
            f"{SCHEME}{model} is there already and public, so --private can hide nothing; make it "
            "private in its settings on the Hub first, or give another name"
        )
    return {file.rfilename for file in found.siblings or ()}


@contextmanager
def explained(model: str, revision: str | None, name: str) -> Iterator[None]:
    """Turns huggingface_hub's errors into a UserError that says what to do."""
    from huggingface_hub import errors

    at = f"{SCHEME}{model}" + (f"@{revision}" if revision else "")
    login = "log in: hf auth login"
    logging.getLogger("huggingface_hub").propagate = False  # it shows its warnings itself
    try:
        yield
    except RuntimeError as error:
        if "home directory" not in str(error):
            raise
        raise UserError(
            "this user has no home folder to keep files of the Hub in; set $HF_HOME to a folder"
        ) from None
    except errors.HFValidationError as error:
        raise UserError(f"{at} is no model's name: {brief(error)}") from None
    except errors.GatedRepoError:
        raise UserError(
            f"{at} is gated: its authors want you to agree to their terms. Agree on the model's "
            f"page, then {login}"
        ) from None
    except errors.RevisionNotFoundError:
        raise UserError(f"{SCHEME}{model} has no branch, tag or commit {revision}") from None
    except errors.RemoteEntryNotFoundError:
        raise UserError(
            f"{at} has no {name}, so it is no model that progan has put there"
        ) from None
    except errors.RepositoryNotFoundError:
        raise UserError(f"no such model: {at}; if it is private, {login}") from None
    except errors.LocalTokenNotFoundError:
        raise UserError(f"you are not logged in to the Hub; {login}") from None
    except errors.HfHubHTTPError as error:
        status = error.response.status_code
        if status not in (401, 403):
            raise UserError(f"the Hub answers {at} with an error: {brief(error)}") from None
        raise UserError(
            f"the Hub refuses this for {at} ({status}): is it yours, and may your token write? "
            f"Else {login}"
        ) from None
    except (errors.LocalEntryNotFoundError, errors.OfflineModeIsEnabled, errors.HTTPError) as error:
        reason = error.__cause__ if isinstance(error.__cause__, Exception) else error
        raise UserError(
            f"the Hub cannot be reached for {at} ({brief(reason)}); try again with a network"
        ) from None
