"""Evaluate selectors on benchmarks: problems, recording, scoring, statistics and reports.

The modules form a pipeline: problems (`datasets`) -> recorded candidates (`recording`, `nad_agents.runs`) -> verdicts
(`scoring`) -> every selector's rankings (`plan`, `measures`) -> figures with intervals (`evidence`, `statistics`) ->
tables, plots and a page (`tables`, `plots`, `report`). Only recording needs torch.
"""
