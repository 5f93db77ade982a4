"""Answers, votes, intervals and reports."""
