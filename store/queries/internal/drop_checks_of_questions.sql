-- Deletes the checks of these questions with the overlaps that they found.
delete from overlap_checks where question_id in (select value from json_each(:questions))
