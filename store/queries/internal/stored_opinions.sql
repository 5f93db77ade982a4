-- Which of these rationales a verifier has read.
select rationale_id from verifications
where verifier_id = :verifier and rationale_id in (select value from json_each(:rationales))
