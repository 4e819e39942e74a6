"""What an agent runtime imports to put its steps on the record: nothing of ours, only aiokafka and cryptography.

    from tallystick.emit import Emitter

    with Emitter("localhost:9092", source="support-runtime") as emitter:
        with emitter.run(workflow="refund", agent="support", version="1.4.0", principal="ann@example.org") as run:
            run.model_call(provider="openai", model="gpt-5", input_tokens=812, output_tokens=64)

`emit()` and the kinds' methods never wait and never raise for reasons of transport: events are kept in a bounded buffer
while Kafka is away; what must be dropped is declared on the record (`producer_gap`), critical kinds last of all.
`record()` and `run.durable()` return only when Kafka has the event. docs/emitting.md is the guide, with the limits.

Not guaranteed: what is still in the buffer when the process is killed is lost, and shows only as a run that does not
end, or as a number missing before a later event.

Reading order: encode (an event's bytes), buffer (what is kept), courier (how it gets to Kafka), emitter, kinds, run.
"""

from .buffer import Limits, Stats
from .emitter import AsyncEmitter, Emitter, kafka_from_environment
from .encode import CRITICAL_KINDS, Signer, is_critical
from .errors import EmitError, EventError, NotRecordedError, NotYetRecordedError, RefusedError
from .run import Run

__all__ = [
    "CRITICAL_KINDS",
    "AsyncEmitter",
    "EmitError",
    "Emitter",
    "EventError",
    "Limits",
    "NotRecordedError",
    "NotYetRecordedError",
    "RefusedError",
    "Run",
    "Signer",
    "Stats",
    "is_critical",
    "kafka_from_environment",
]
