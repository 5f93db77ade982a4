"""The student: prompts, LoRA training, batched generation, the DSPy engine."""
