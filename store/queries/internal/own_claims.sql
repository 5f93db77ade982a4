-- Which of these keys an owner has claimed.
select key from claims where kind = :kind and owner = :owner and key in (select value from json_each(:keys))
