"""bm25s as a peer of kard: does what the lines of its input say, which benchmarks/peers.py writes.

It runs in an environment of its own, with bm25s, numba and PyStemmer. All queries of a file are searched with at
once, which is its fastest way.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

from lines import commands, read, write

QUIET = {"show_progress": False}


def main() -> None:
    bm25s, numba, numpy = import_module("bm25s"), import_module("numba"), import_module("numpy")
    tokenizers, stemmer = import_module("bm25s.tokenization"), import_module("Stemmer").Stemmer("english")
    tokenizer: Any = None
    index: Any = None
    frequency: Any = None
    for words in commands(f"bm25s {bm25s.__version__}, numba {numba.__version__}, numpy {numpy.__version__}"):
        match words:
            case ["index", source, folder]:
                passages = [line.split("\t") for line in read(source)]
                tokenizer = tokenizers.Tokenizer(stemmer=stemmer, stopwords="en")
                tokens = tokenizer.tokenize([f"{p[1]}\n{p[2]}" for p in passages], return_as="tuple", **QUIET)
                index = bm25s.BM25(k1=1.2, b=0.75, method="lucene", backend="numba")
                index.index(tokens, **QUIET)
                index.save(folder, corpus=passages, **QUIET)
                tokenizer.save_vocab(folder)
            case ["open", folder]:
                index = bm25s.BM25.load(folder, **QUIET)
                tokenizer = tokenizers.Tokenizer(stemmer=stemmer, stopwords="en")
                tokenizer.load_vocab(folder)
                frequency = numpy.diff(index.scores["indptr"])
            case ["search", queries, k, share, _, out, _]:
                ids = tokenizer.tokenize(read(queries), update_vocab=False, **QUIET)
                if float(share) < 1:
                    keep = (frequency <= float(share) * index.scores["num_docs"]).tolist()
                    ids = [[i for i in of_one if keep[i]] or of_one for of_one in ids]
                write(out, index.retrieve(ids, k=int(k), n_threads=1, **QUIET).documents)
            case _:
                raise ValueError(words)


if __name__ == "__main__":
    main()
