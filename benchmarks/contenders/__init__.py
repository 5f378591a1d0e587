"""Ways of teaching numbers to a causal language model, side by side; see `benchmarks/arena.py`."""
