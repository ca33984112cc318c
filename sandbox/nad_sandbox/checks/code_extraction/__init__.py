"""Extract the program from a model's answer, however the model wrapped it."""

from nad_sandbox.checks.code_extraction.programs import extract_code, extract_programs
from nad_sandbox.checks.guarded_parse import LONGEST_PROGRAM

__all__ = ["LONGEST_PROGRAM", "extract_code", "extract_programs"]
