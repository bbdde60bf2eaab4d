"""Quorate's SDK: sign orders, follow jobs, fetch and verify results."""

__version__ = "0.1.0"
