-- Who has claimed work of a kind.
select distinct owner from claims where kind = :kind
