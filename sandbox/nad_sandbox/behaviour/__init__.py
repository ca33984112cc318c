"""Observe what programs do on the same inputs, so that programs that behave alike can be grouped."""
