"""Find the examples of a prompt or docstring: calls with what they return, print or raise, used only when certain."""

from nad_sandbox.checks.examples.find import Example, FoundExamples, UncertainExample, find_examples, read_examples
from nad_sandbox.checks.examples.scanner import Comparison

__all__ = ["Comparison", "Example", "FoundExamples", "UncertainExample", "find_examples", "read_examples"]
