"""What a Ray cluster makes of a knowledge base is what one process makes, though a machine is lost meanwhile."""

from __future__ import annotations

import json
import random
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from kard.encoders.vectors import list_encodings
from kard.knowledge.indexing import index_source
from kard.knowledge.knowledge_base import KnowledgeBase
from kard.models.bases import resolve
from kard.retrieval.dense import DenseSearch, encoder_of_base

WORDS = ("ants", "bees", "cats", "dogs", "eels", "foxes")
PASSAGES = 500
SMALL = (
    "from kard.encoders import vectors; from kard.knowledge import shards; shards.LARGEST = 40; vectors.BATCH = 50"
)
LOST = """
import json, subprocess, sys, time
from pathlib import Path
from ray.cluster_utils import Cluster

folder, commands = Path(sys.argv[1]), json.loads(sys.argv[2])
cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
for command, made in zip(commands, ("shards/*", "encodings/*/vectors.f16"), strict=True):
    node = cluster.add_node(num_cpus=1)
    run = subprocess.Popen([*command, "--ray", cluster.address])
    while node and run.poll() is None:
        if any(file.stat().st_size for file in folder.glob(made)):  # of many parts the first has ended
            cluster.remove_node(node, allow_graceful=False)
            node = None
        time.sleep(0.01)
    print("rc", run.wait(), "lost", not node)
cluster.shutdown()
"""


def test_a_base_and_vectors_by_a_cluster_that_loses_a_node_are_those_of_one_process(
    tmp_path: Path, write_encoder: Callable[..., Path]
) -> None:
    pytest.importorskip("ray", reason="needs Ray: pip install 'kard[ray]'")
    texts, alone, joined = (tmp_path / name for name in ("texts", "alone", "joined"))
    texts.mkdir()
    for number in range(PASSAGES):
        said = " ".join(random.Random(number).choices(WORDS, k=4))
        (texts / f"{number:03}.txt").write_text(said, encoding="utf-8")
    encoder = write_encoder(tmp_path / "encoder", words=list(WORDS))
    small = tmp_path / "small.py"
    small.write_text(f"{SMALL}\nfrom kard.cli import main\nmain()\n", encoding="utf-8")
    places = ["--knowledge", str(joined), "--store", str(tmp_path / "kard.db"), "--quiet"]
    words = (["index", str(texts)], ["encodings", "fill", "--encoder", str(encoder)])
    commands = json.dumps([[sys.executable, str(small), *command, *places] for command in words])
    script = [sys.executable, "-c", LOST, str(joined), commands]
    run = subprocess.run(script, capture_output=True, text=True, timeout=300, cwd=tmp_path)
    assert re.findall(r"rc (\d+) lost (\w+)", run.stdout) == [("0", "True")] * 2, run.stdout + run.stderr

    index_source(texts, alone)
    one, other = KnowledgeBase.open(alone), KnowledgeBase.open(joined)
    assert other.id == one.id
    for word in (*WORDS, " ".join(WORDS)):
        hits = [[(hit.passage.id, hit.bm25) for hit in kb.search(word, 20, max_df=1.0)] for kb in (one, other)]
        assert hits[0] == hits[1]
    embedder = encoder_of_base(resolve(str(encoder))).embedder
    (stored,) = list_encodings(joined)
    assert stored.passages == PASSAGES
    ids = one.passage_ids()
    encoded = DenseSearch(other, embedder).encodings.get(ids)
    for passage, vector in zip(ids, embedder.passages(one.passages(ids)), strict=True):
        assert np.allclose(encoded[passage], vector, atol=1e-3)
