from tests.captured_steps import recorded

__all__ = ["recorded"]
