"""Base models, adapters and the hardware that they run on."""
