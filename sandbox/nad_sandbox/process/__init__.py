"""Running a process: supervision, streams and capped output."""
