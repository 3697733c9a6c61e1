"""The whole job on this machine."""

from poller.demo.play import run

__all__ = ["run"]
