"""What the hub and its client refuse, in one sentence each; a token appears in none."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator

from fastfcn.errors import UserError

#: How to be known to the hub.
SIGN_IN = "`hf auth login` keeps a token on this machine, or set HF_TOKEN in the environment"

#: What a token looks like.
_TOKEN = re.compile(r"hf_[A-Za-z0-9_]{6,}")


def quiet() -> None:
    """Have the client's HTTP library not tell each request, where Hydra lets loggers speak."""
    for name in ("httpx", "httpx2"):
        logging.getLogger(name).setLevel(logging.WARNING)


def told(error: BaseException, doing: str, *, missing: str | None = None) -> UserError:
    """The sentence for an error of huggingface_hub.

    Args:
        error: What it raised.
        doing: What was tried, such as ``hf://user/name cannot be read``; begins the sentence.
        missing: The file that was to be fetched; None where files were to be sent.
    """
    from huggingface_hub import errors

    status = next((code for link in _chain(error) if (code := _status(link)) is not None), None)

    cached = ", and the file is not in the cache" if missing else ""

    def is_a(*kinds: type[BaseException]) -> bool:
        return any(isinstance(link, kinds) for link in _chain(error))

    if is_a(errors.GatedRepoError):
        reason = f"its owner has to grant access first, on its page; then {SIGN_IN}"
    elif is_a(errors.RevisionNotFoundError):
        reason = "there is no such revision; its page lists branches, tags and commits"
    elif is_a(errors.RepositoryNotFoundError):
        reason = f"there is no such repository, or it is private and this token does not open it: {SIGN_IN}"
    elif is_a(errors.EntryNotFoundError) and not is_a(errors.LocalEntryNotFoundError):
        reason = f"it has no file {missing}: a model of this project is pushed there by src/export.py to=hub"
    elif status == 401:
        reason = f"the hub does not accept this token: {SIGN_IN}"
    elif status == 403:
        reason = "this token may not do that: give one with write access to the repository"
    elif is_a(errors.OfflineModeIsEnabled):
        reason = f"HF_HUB_OFFLINE is set{cached}: unset it" + (
            ", or fetch the file once with a network" if missing else ""
        )
    elif status is not None:
        reason = f"the hub answers {status}{_server_says(error)}: try again later"
    else:
        said = " ".join(f"{type(error).__name__}: {error}".split())[:200].rstrip(".")
        reason = f"the hub cannot be reached{cached} ({said}): see to the network and to HF_ENDPOINT"
    return UserError(_TOKEN.sub("hf_***", f"{doing}: {reason}."))


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _status(error: BaseException) -> int | None:
    code = getattr(getattr(error, "response", None), "status_code", None)
    return code if isinstance(code, int) else None


def _server_says(error: BaseException) -> str:
    said = next((text for link in _chain(error) if (text := getattr(link, "server_message", None))), None)
    return f" ({' '.join(str(said).split())[:200].rstrip('.')})" if said else ""
