"""Vectors that workers make: each loads the encoder once, gets the passages' texts, and sends back their vectors.

The process that asks is the only one that writes them, so that a worker needs neither the knowledge base nor the
store. A base is found on each machine as any base is; the adapter in an encoder goes along.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from zipfile import ZipFile

from kard.encoders.encoder import PROJECTION, Encoder, encode_passages
from kard.encoders.families import encoder_of
from kard.encoders.vectors import Encodings, ReadPassages, Vector, VectorSpec, batches
from kard.errors import NoBase
from kard.models import bases
from kard.models.adapters import AdapterSwitcher
from kard.progress import SILENT, Progress
from kard.records import Passage
from kard.work.workers import Shared, Workers, add_folder, unpacked

Job = tuple[VectorSpec, bool, Sequence[Passage]]
"""What is to be encoded how, and whether the encoder has a projection."""
_loaded: dict[str, Encoder] = {}  # of a worker, by the id of its spec: the one that it used last


def fill(
    encodings: Encodings,
    ids: Sequence[str],
    read: ReadPassages,
    encoder: Callable[[], Encoder],
    workers: Workers | None,
    progress: Progress = SILENT,
) -> int:
    """Encode the passages that have no vector yet as `Encodings.fill` does, by workers if there are any.

    `encoder` loads the encoder where it is not loaded. A single batch gains nothing from processes of this machine,
    and is left to this one.
    """
    spec, missing = encodings.spec, encodings.missing(ids)
    parts = list(batches(missing))
    if workers is None or len(parts) < (1 if workers.elsewhere else 2):
        return encodings.fill(missing, read, lambda p: encode_passages(encoder(), p, spec), progress=progress)
    with TemporaryDirectory(prefix="kard-", ignore_cleanup_errors=True) as place:
        adapter = Path(place) / "adapter.zip"
        with ZipFile(adapter, "w") as archive:
            if folder := encoder().adapter:
                add_folder(archive, folder, folder)
        jobs = ((spec, PROJECTION in encoder().new, list(read(part))) for part in parts)
        encoded = (vectors for _, vectors in workers.run(_encode, jobs, adapter, heavy=True))
        return encodings.store(encoded, len(missing), progress)


def _encode(job: Job, adapter: Shared) -> dict[str, Vector]:
    """Return the vectors of some passages, in a worker. Raises NoBase."""
    spec, projection, passages = job
    if spec.id not in _loaded:
        _loaded.clear()
        _loaded[spec.id] = _load(spec, projection, adapter)
    vectors = encode_passages(_loaded[spec.id], passages, spec)
    return {p.id: vector for p, vector in zip(passages, vectors, strict=True)}


def _load(spec: VectorSpec, projection: bool, adapter: Shared) -> Encoder:
    """Load the encoder that makes vectors by this spec. Raises NoBase if the base is not here or is another one."""
    base = bases.resolve(spec.base)
    if base.sha256 != spec.base_sha256:
        raise NoBase(f"{spec.base} has other weights for a worker than for the process that asked; run it again")
    if not spec.adapter_sha256:
        return encoder_of(base, spec.max_length)
    encoder = Encoder.of(base, max_length=spec.max_length, projection=projection)
    with unpacked(adapter) as folder:
        AdapterSwitcher(encoder.model).activate(folder)
    return encoder
