"""A dataset folder to the Hugging Face Hub: checked first, then sent as one commit.

Knows: which files make a dataset, what the Hub can say no to.  Does not know: how rows are made, what a card says.

One commit, so that nobody loads half of a new version together with half of an old one; what was sent before an
interruption is not sent again.  (``upload_large_folder`` commits in parts and keeps its notes inside the local folder.)
"""

from __future__ import annotations

import os
import re
from typing import Any

from prisbench.datasets.load import Dataset, open_dataset
from prisbench.datasets.schema import MANIFEST, TABLES
from prisbench.errors import DataError, UsageError, WriteError
from prisbench.runtime.files import read_bytes, sha256_file

CARD = "README.md"

BESIDE = ("croissant.json", "LICENSE", "LICENSE.md", "LICENSE.txt")
"""Sent, too, when they are there.  Nothing else is: what a user keeps in the folder stays at home."""

NEEDS_TOKEN = (
    "make one that may write at https://huggingface.co/settings/tokens, then run `hf auth login` or set HF_TOKEN"
)


def push(folder: str | os.PathLike[str], repo_id: str, private: bool = False, token: str | None = None) -> str:
    """Send a dataset to the Hub and return its address there; the folder is only read.

    ``repo_id`` is NAME (of the token's user) or OWNER/NAME; it is made when it is not there.  ``private`` is for a new
    one; the visibility of one that is there stays.  ``token``: default is what ``hf auth login`` or HF_TOKEN left.
    Shards there that the new version has not are removed in the same commit.

    Raises DataError when the folder is not a whole dataset, UsageError for a name or a token that cannot be, WriteError
    when the Hub cannot be reached or refuses: one line that says what to do, and that the folder is complete.
    """
    dataset = _whole(folder)
    stands = f"{folder} is complete: nothing is lost, push it again when that is mended"
    from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi
    from huggingface_hub.errors import HFValidationError

    api = HfApi(token=_token(token, stands))
    try:
        repo = api.create_repo(repo_id, repo_type="dataset", private=private or None, exist_ok=True)
        there = api.list_repo_files(repo.repo_id, repo_type="dataset")
        ours = _files(dataset)
        changes: list[Any] = [CommitOperationAdd(path, str(dataset.folder / path)) for path in ours]
        changes += [CommitOperationDelete(path) for path in there if _is_shard(path) and path not in ours]
        message = f"{dataset.id}, digest {dataset.digest[:16]}"
        api.create_commit(repo.repo_id, changes, commit_message=message, repo_type="dataset")
    except HFValidationError:
        raise UsageError(
            f"{repo_id!r} is no name for a dataset on the Hub: write NAME or OWNER/NAME in letters, digits, '-', '_' "
            f"and '.', like my-name/{dataset.id}; {stands}"
        ) from None
    except Exception as error:  # the classes of a failed connection are those of the hub's HTTP library, which changes
        raise WriteError(f"cannot push to {repo_id}: {_why(error, api.endpoint, repo_id)}; {stands}") from error
    return str(repo)


def _whole(folder: str | os.PathLike[str]) -> Dataset:
    """The dataset, when every file of it is there and as it was written, and the card tells the Hub its tables."""
    dataset = open_dataset(folder)
    for path, expected in dataset.manifest.files.items():
        if sha256_file(dataset.folder / path) != expected:
            raise DataError(
                f"{dataset.folder / path} has changed (another sha256 than in {MANIFEST}); copy it again or rebuild"
            )
    card = read_bytes(dataset.folder / CARD).decode("utf-8", errors="replace")
    front = re.match(r"---\r?\n(.*?)\r?\n---\r?\n", card, re.DOTALL)
    if front is None or not re.search(r"^configs:", front[1], re.MULTILINE):
        raise DataError(
            f"{dataset.folder / CARD} has lost its front matter (the lines between --- with `configs:`), by which the "
            "Hub knows the tables; rebuild the dataset or put them back"
        )
    return dataset


def _files(dataset: Dataset) -> list[str]:
    """What is sent, by path inside the folder."""
    beside = [name for name in BESIDE if (dataset.folder / name).is_file()]
    return [CARD, MANIFEST, *beside, *sorted(dataset.manifest.files)]


def _is_shard(path: str) -> bool:
    return path.endswith(".parquet") and path.split("/")[0] in TABLES


def _token(given: str | None, stands: str) -> str:
    """Raises UsageError, which never shows the token."""
    from huggingface_hub import get_token

    try:
        token = given or get_token()
    except Exception as error:  # a token that should come from elsewhere (OIDC, OAuth) and does not
        raise UsageError(f"no token for the Hub ({_one_line(error)}); {NEEDS_TOKEN}; {stands}") from error
    if not token:
        raise UsageError(f"no token for the Hub: {NEEDS_TOKEN}; {stands}")
    if not re.fullmatch(r"[!-~]+", token):
        raise UsageError(f"the token for the Hub has spaces or other odd characters in it: copy it again; {stands}")
    return token


def _why(error: Exception, endpoint: str, repo_id: str) -> str:
    """What went wrong and what to do."""
    from huggingface_hub.errors import HfHubHTTPError, OfflineModeIsEnabled

    if isinstance(error, OfflineModeIsEnabled):
        return "HF_HUB_OFFLINE is set; unset it"
    if not isinstance(error, HfHubHTTPError):
        return f"{endpoint} cannot be reached ({_one_line(error)}); see to the network, or to HF_ENDPOINT if it is set"
    status, said = error.response.status_code, _one_line(error.server_message or "")
    says = f"the Hub says {status}{f' ({said})' if said else ''}"
    if status == 401:
        return f"{says}: it does not know the token; {NEEDS_TOKEN}"
    if status == 403:
        return f"{says}: the token may not write there; take one that may, or another name than {repo_id}"
    if status == 404:
        return f"{says}: no such owner, or the token may not see it; look at the spelling of {repo_id}"
    return f"{says}; try again later" if status == 429 or status >= 500 else says


def _one_line(value: object) -> str:
    """At most 200 printable characters."""
    text = " ".join("".join(c if c.isprintable() else " " for c in str(value)).split())
    return text if len(text) <= 200 else text[:197] + "..."
