"""The teacher: rationales from any DSPy LM or a file, checked and paid for once."""
