"""Which answer a text concludes on, and the vote over several texts. Nothing here knows a store or a model.

    parsing   the answer of a text, in one plain form that nothing contradicts; that of a field of its own
    mentions  the sentences of a text, and where they name an option, by letter or by text
    short     the answer of a text to a question without options, and its grade: exact match and F1
    vote      the commonest answer of several texts

`parsing` reads what students write (`answer_of`) and what teachers write (`conclusion`). What cannot be read is
None, never a guess. If the rules change, `kard rescore` reads the stored texts again.
"""
