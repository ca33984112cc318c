"""Engines: what runs the model. `base` says what a backend offers, `hf` is the one over transformers."""
