-- Deletes what students of a task answered to its training questions, their own rationales among it.
delete from evaluations where task = :task and split = 'train'
