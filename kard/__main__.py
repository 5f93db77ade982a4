"""`python -m kard`, and `accelerate launch -m kard train student TASK` on several devices."""

from kard.cli import main

main(prog_name="kard")
