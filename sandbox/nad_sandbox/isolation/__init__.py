"""Confine a program: system calls, control groups, user, and the bootstrap program inside the sandbox."""
