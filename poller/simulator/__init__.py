"""The P云 platform and a webhook receiver, simulated over real sockets: for the demo, tests and benchmarks.

It stands apart: it knows the platform's protocol from its documents, and nothing of how the daemon asks.
"""

from poller.simulator.naming import FORMS, choose, describe, draw, parse
from poller.simulator.platform import MEAN_SETTLE_S, Outage, SimulatedPlatform, serve
from poller.simulator.receiver import Answers, Hangs, HangsUp, ReceivedNotice, WebhookReceiver
from poller.simulator.record import Query, Record
from poller.simulator.scenarios import (
    AfterQueries,
    AfterSeconds,
    Contradicts,
    Fault,
    Faulty,
    Garbage,
    Garbles,
    Outcome,
    Pending,
    Rejects,
    Scenario,
    Settles,
    Slow,
)

__all__ = [
    "FORMS",
    "MEAN_SETTLE_S",
    "AfterQueries",
    "AfterSeconds",
    "Answers",
    "Contradicts",
    "Fault",
    "Faulty",
    "Garbage",
    "Garbles",
    "Hangs",
    "HangsUp",
    "Outage",
    "Outcome",
    "Pending",
    "Query",
    "ReceivedNotice",
    "Record",
    "Rejects",
    "Scenario",
    "Settles",
    "SimulatedPlatform",
    "Slow",
    "WebhookReceiver",
    "choose",
    "describe",
    "draw",
    "parse",
    "serve",
]
