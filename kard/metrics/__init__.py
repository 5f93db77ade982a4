"""Statistics without a store or a model: intervals, bootstrap, exact tests, and measures of rankings."""
