-- Documents that any question needs: its evidence, and those that hold its facts.
select document from evidence
union
select p.document from fact_passages f join passages p on p.id = f.passage_id
