-- Gives a question the content of a file's row; it keeps the time at which it was first loaded.
update questions
set key = :key, split = :split, text = :text, options = :options, answer = :answer, kind = :kind, facts = :facts,
    hash = :hash
where id = :id
