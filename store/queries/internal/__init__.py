"""The statements that kard itself runs, one per file; `kard query` does not list them."""
