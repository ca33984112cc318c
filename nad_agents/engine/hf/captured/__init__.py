"""The decoding step as a captured CUDA graph, which the host launches in one call instead of about a thousand.

A graph repeats the operations that were recorded once, on the same addresses. So the keys and values of all rows lie in
buffers that stay where they are, with room for a rounded number of rows and positions, and what differs from step to
step (tokens, positions) is a tensor.

- `graphs`: capture and replay by CUDA
- `host_waits`: whether a step makes the host wait, which no graph can
- `static_cache`: the buffers, which the suffixes of `SharedPrefixCache` become views of, and the cache over them
- `captured_steps`: which graph a batch of rows takes, and what a step does beside the graph
- `self_check`: whether the graph computes what the model's own step computes, and how much faster
- `compile_option`: whether an engine's steps are captured at all
- `support`: which models' steps can be captured, and why others cannot
"""
