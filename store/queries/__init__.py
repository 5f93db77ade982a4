"""Named queries, one statement per file."""
