"""Which option a text concludes on, and the vote over several texts. Nothing here knows a store or a model.

    parsing   the answer of a text: after `Answer:`, else by its last statement, else by its hints
    mentions  where a sentence names an option, by letter or by text
    vote      the commonest answer of several texts

`parsing` reads what students write (`answer_of`) and what teachers write (`conclusion`). What cannot be read is
None, never a guess. If the rules change, `kard rescore` reads the stored texts again.
"""
