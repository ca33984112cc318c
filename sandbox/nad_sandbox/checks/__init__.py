"""The check of code: which code an answer holds, which examples the prompt gives, and the report."""
