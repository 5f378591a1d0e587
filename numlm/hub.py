"""Model folders to the Hugging Face hub."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from huggingface_hub import HfApi
from huggingface_hub.errors import HfHubHTTPError

# Errors of a connection are passed on as httpx has them, from version 2 of the hub on as httpx2.
_HTTP_ERROR: type[Exception] = HfHubHTTPError.__bases__[0]


class HubError(OSError):
    """The hub does not take a model; the message is one sentence for users."""


def make_repository(repo_id: str, private: bool = True) -> str:
    """Make a repository for a model if it is not there; `owner/name` as the hub writes it.

    Raises:
        HubError: If the hub does not let it be made.
    """
    with _one_sentence(repo_id):
        return str(HfApi().create_repo(repo_id, private=private, exist_ok=True).repo_id)


def upload_model(folder: str | Path, repo_id: str, private: bool = True, **options: Any) -> str:  # noqa: ANN401
    """Upload the files of a folder, in one commit.

    Args:
        folder: The folder.
        repo_id: `owner/name`; made if it is not there.
        private: Whether only its owner sees a repository that is made.
        **options: Given to `HfApi.upload_folder`.

    Returns:
        Address of the commit.

    Raises:
        HubError: If the hub does not take it.
    """
    repo_id = make_repository(repo_id, private)
    with _one_sentence(repo_id):
        commit: Any = HfApi().upload_folder(folder_path=folder, repo_id=repo_id, **options)
        return str(commit.commit_url)


@contextmanager
def _one_sentence(repo_id: str) -> Iterator[None]:
    try:
        yield
    except (OSError, ValueError, _HTTP_ERROR) as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise HubError(
            f"the hub does not take the model as '{repo_id}' ({reason}): `hf auth login` with a "
            "token that may write to it"
        ) from None
