"""What can go wrong at intake.

IngestError
├── ConsumerEnded      this consumer can't go on: fenced out, or the ledger refused; another may
├── ClusterUnreachable Kafka does not answer
└── Refused            a record that intake refuses; `code` is what the `rejected` entry says
"""

# ruff: noqa: N818  names say what happened


class IngestError(Exception):
    """Root of everything intake raises on purpose."""


class ConsumerEnded(IngestError):
    """This consumer can't go on; what it had not committed will be read again by the next."""


class ClusterUnreachable(IngestError):
    """Kafka does not answer."""


class Refused(IngestError):
    """Intake refuses a record. `detail` names members and forms, never values: it stands in a public leaf."""

    def __init__(self, code: str, detail: str) -> None:
        super().__init__(f"{code}: {detail}")
        self.code = code
        self.detail = detail
