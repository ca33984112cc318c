"""What programs do on given inputs, so that those that behave alike can be grouped."""
