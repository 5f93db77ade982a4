"""The statements that kard itself runs; not listed by `kard query`."""
