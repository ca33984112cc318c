"""The confinement of a program: system-call filter, control groups, limits."""
