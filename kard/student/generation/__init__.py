"""Generate answers with a student."""
