"""What a task is: one module per task, each with a `TASK`."""

DEMO = "atlas"
