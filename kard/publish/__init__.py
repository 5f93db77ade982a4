"""Adapters as folders with a model card."""
