"""One module for each pair of steps: what they have done, lack and have outdated, and how they are run."""
