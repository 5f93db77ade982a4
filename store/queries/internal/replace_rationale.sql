-- Gives the rationale of a question, teacher and sample another text.
update rationales
set text = :text, conclusion = :conclusion, accepted = :accepted, prompt_tokens = :prompt_tokens,
    completion_tokens = :completion_tokens, cost = :cost, milliseconds = :milliseconds, created = :created
where question_id = :question_id and teacher_id = :teacher_id and sample = :sample
