"""Encoders: passages and questions to vectors, which are computed once and kept on disk.

Rerankers and dense search compare vectors. A vector is decided by the base, its adapter, the pooling, the form of
the text and the length at which it is cut. All of that is a `VectorSpec`, whose hash names the folder of vectors.

Modules in reading order:

    vectors    VectorSpec; vectors in a folder beside the knowledge base; a cache in memory
    encoder    Encoder, texts to vectors; CrossEncoder, question and passage to a score; encode_passages
    families   how E5, Contriever, DPR and BGE were trained to read; Embedder, encoders of passages and questions
    by_workers vectors that processes or machines make beside each other

How a passage becomes a vector:

    missing    the ids that have no vector in this folder yet       vectors.Encodings.fill
    text       title and text in the form of the spec               vectors.passage_text
    tokens     batches of similar lengths                           encoder.TextModel.batches
    vector     the mean of the tokens' vectors, or one a token      encoder.Encoder.vectors
    rows       appended in half precision, then named by the index  vectors.Encodings.add

Importing `vectors` loads numpy but no torch, so that listing vectors is quick.
"""
