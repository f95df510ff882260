"""What to ask an expert next (`strategies`, NumPy only), and the proof that asking so helps (`simulation`)."""
