"""What to ask an expert next, and the proof that asking so helps. NumPy only, usable from a notebook."""
