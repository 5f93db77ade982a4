-- The highest price of one call to a teacher in US dollars, null where no price is known.
select max(cost) from (
    select cost from rationales where teacher_id = :teacher
    union all
    select cost from failed_replies where teacher_id = :teacher
)
