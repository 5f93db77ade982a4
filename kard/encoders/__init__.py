"""Texts to vectors, kept on disk."""
