"""Evidence: problems, recording, scoring, statistics and reports.

problems (`datasets`) -> candidates on disk (`recording`, `nad_agents.runs`) -> verdicts (`scoring`) -> every selector's
picks (`table`) with intervals (`statistics`) -> pictures and a page (`plots`, `report`). Only recording needs torch.
"""
