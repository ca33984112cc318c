"""Engines run the model: `base` says what a backend must offer, `scheduler` shares one between many callers.

`hf` is the backend over transformers, `vllm` the one over vLLM, and `openai` the one over any server with OpenAI's
protocol, which has no neurons.
"""
