-- Whether a student's prompts and targets had room in training.
select examples, cut, target_tokens, long_targets from students where id = :student
