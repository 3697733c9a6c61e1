"""The daemon's HTTP side: orders come in, states and notices go out."""

from poller.intake.connection import Limits
from poller.intake.desk_port import Desk
from poller.intake.server import Intake, start

__all__ = ["Desk", "Intake", "Limits", "start"]
