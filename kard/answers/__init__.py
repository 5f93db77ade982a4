"""Which option a text concludes on, and the vote over several texts."""
