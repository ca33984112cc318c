"""Keep the prompt of a request once, and compute attention to it once for all of its candidates.

All candidates of a request attend to the same prefix, so their queries form one block against one copy of its keys and
values. Attention over a candidate's own suffix is computed separately, and the two are merged by the log-sum-exp of
their scores (Hydragen, arXiv 2402.05099).

- `blocks`: keys and values of prompts, immutable and shared by references
- `prefix_cache`: earlier prompts and which of their beginnings can be used again
- `layers`, `cache`: a transformers cache of prefixes per request and suffixes per row
- `partial_attention`, `attention`: attention over a part of the keys, and the function that transformers calls
- `support`: which models can share prefixes, and why others cannot
"""
