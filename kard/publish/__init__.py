"""Trained adapters as folders for others, which peft, transformers, vLLM and the model hub read.

In reading order:

- `student`   a student: its adapter, or its base with the trained weights merged in
- `reranker`  the same for a reranker and its encoder
- `folder`    the files of such a folder; it appears when it is complete, and names no path of this machine
- `card`      the model card; its text is the template `card.md.jinja`

How an adapter travels: `kard models export` calls `export_student` or `export_reranker`. The trained weights are
checked against the hash in the store and copied byte for byte, or merged into the base. The card states what the
store holds: hashes, settings, results with intervals, and the prompts. Every value that enters the card becomes
one harmless line or a fenced block, so that no text of the store can act as Markdown or HTML. It states no licence:
that is for who publishes.
"""
