"""The P云 (4pyun) platform: all its field names live here."""

from poller.pyun.client import Lot, PyunPlatform
from poller.pyun.reply import parse

__all__ = ["Lot", "PyunPlatform", "parse"]
