"""Canned queries for people, one statement per file; `internal/` holds those that kard itself runs."""
