"""The simulator: a believable iOS app's traffic, the same bytes for the same seed and start.

`events` is the whole core, pure and without a clock; `sender` is the thin shell towards Kafka.
What does not belong here: topics, the broker, and anything that reads what was sent.
"""

from engagement.stack.simulator.faults import Faults
from engagement.stack.simulator.traffic import events
from engagement.stack.simulator.wire import Record

__all__ = ["Faults", "Record", "events"]
