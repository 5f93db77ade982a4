-- Claim what is free, whose claim has ended, or whose owner is dead.
insert into claims (kind, key, owner, expires)
select :kind, value, :owner, :expires from json_each(:keys) where true
on conflict (kind, key) do update set owner = excluded.owner, expires = excluded.expires
where claims.expires < :now or claims.owner = excluded.owner or claims.owner in (select value from json_each(:dead))
