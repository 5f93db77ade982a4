"""Find, rank and fuse passages."""
