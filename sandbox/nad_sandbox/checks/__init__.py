"""Check code: extract the program from an answer, find the prompt's examples, judge the program and report."""
