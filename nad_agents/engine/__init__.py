"""Engines run the model: `base` says what a backend must offer, `scheduler` shares one between many callers.

`hf` is the backend over transformers.
"""
