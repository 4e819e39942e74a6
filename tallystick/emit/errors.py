"""What an emitter raises. `emit()` raises EventError only; NotRecordedError comes from the durable mode alone.

EmitError
├── EventError               the event can't be one (a float as an amount, a bad run id); also a ValueError
└── NotRecordedError         durable mode: Kafka's acknowledgement was not seen
    ├── NotYetRecordedError  not within the timeout: it stays queued, may still be recorded; also a TimeoutError
    └── RefusedError         it was not queued, or was given up, and will not be recorded
"""


class EmitError(Exception):
    """Root of everything that tallystick.emit raises."""


class EventError(EmitError, ValueError):
    """The event itself is wrong: says which member, what was expected, what was got."""


class NotRecordedError(EmitError):
    """The durable mode cannot say that Kafka has the event: don't do the write."""


class NotYetRecordedError(NotRecordedError, TimeoutError):
    """No acknowledgement in time. The event stays queued: it may be on the record later although you did not write."""


class RefusedError(NotRecordedError):
    """The event is not queued (buffer and reserve full, too large, emitter closed) and will not be recorded."""
