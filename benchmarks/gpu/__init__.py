"""The benchmark of the transformers engine on a GPU: `python -m benchmarks.gpu`."""
