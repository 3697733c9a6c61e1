"""Polls the P云 (4pyun) platform until a parking lot's debit orders are final, and never loses one."""

__version__ = "0.1.0"
