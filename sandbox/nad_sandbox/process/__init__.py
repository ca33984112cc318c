"""Supervise a running program: its streams, its time, and how much of its output is kept."""
