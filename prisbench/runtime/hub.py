"""The Hugging Face Hub where it may be out of reach: one question, asked once, before any library retries.

Knows: the hub's address, its cache.  Does not know: what a repository holds.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Sequence
from pathlib import Path

from prisbench.errors import PrisbenchError

SECONDS = 6.0
"""So long the hub may take to answer at all; name servers alone may take minutes to say that they do not know."""


def is_hub_id(where: str | Path) -> bool:
    """Whether a name is OWNER/NAME and no folder of that name is here."""
    return bool(re.fullmatch(r"[\w-][\w.-]*/[\w-][\w.-]*", str(where))) and not Path(where).expanduser().exists()


def out_of_reach(seconds: float = SECONDS) -> str | None:
    """Why the hub cannot be asked now, in a few words; None when it answers, whatever it says.

    One request with the hub's own client, so that proxies and HF_ENDPOINT count.  The libraries ask five times and wait
    in between, for each file.
    """
    from huggingface_hub import constants

    if constants.HF_HUB_OFFLINE:
        return "HF_HUB_OFFLINE is set"
    said: list[str | None] = []

    def ask() -> None:
        from huggingface_hub import get_session

        try:
            get_session().head(constants.ENDPOINT, timeout=seconds)
            said.append(None)
        except Exception as error:  # the classes of a failed connection are those of the hub's HTTP library
            said.append(" ".join(str(error).split())[:100] or type(error).__name__)

    asking = threading.Thread(target=ask, daemon=True)
    asking.start()
    asking.join(seconds)
    why = said[0] if said else f"no answer in {seconds:g} seconds"
    return None if why is None else f"{constants.ENDPOINT} cannot be reached: {why}"


GATED = "{} is gated: accept its terms on huggingface.co and run `hf auth login`"


def fetch(where: str, wanted: Sequence[str], refused: type[PrisbenchError], kind: str = "model") -> Path:
    """The folder in the hub's cache with the files of a repository that match the patterns ``wanted``.

    ``kind``: model or dataset.  Raises ``refused``, in one line, where the hub or its cache does not give them.
    """
    import huggingface_hub
    from huggingface_hub.errors import GatedRepoError, HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    offline = out_of_reach()
    try:
        found = huggingface_hub.snapshot_download(
            where, repo_type=kind, allow_patterns=list(wanted), local_files_only=offline is not None
        )
        return Path(found)
    except GatedRepoError:
        raise refused(GATED.format(where)) from None
    except PermissionError as error:
        raise refused(
            f"{where}: no permission to write {error.filename or 'the cache of huggingface_hub'}; name another place "
            f"for it in the environment's HF_HOME, or a folder with the {kind}"
        ) from None
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError) as error:
        if offline:
            raise refused(not_here(where, offline, kind)) from None
        raise refused(
            f"{where} is not a folder, and the hub does not give it ({type(error).__name__}); check name and network"
        ) from None


def not_here(where: str | Path, why: str, kind: str = "model") -> str:
    """One line about a hub id that is not in the cache while the hub is ``out_of_reach``."""
    from huggingface_hub import constants

    cure = "unset it" if "HF_HUB_OFFLINE" in why else "see to the network"
    return (
        f"{where} is not a folder, and the hub does not give it: it is not in its cache ({constants.HF_HUB_CACHE}), "
        f"and {why}; {cure}, or name a folder with the {kind}"
    )
