"""What can go wrong at intake.

IngestError
├── ConsumerEnded      this consumer can't go on: fenced out, or the ledger refused; another may
├── ClusterUnreachable Kafka does not answer
├── ImportStopped      what was to be sent, or waited for, could not be to its end
├── RejectedUnknown    no rejected entry has this id
├── Unrepairable       a rejected record can't be sent again as it is
└── Refused            a record that intake refuses; `code` is what the `rejected` entry says
"""

# ruff: noqa: N818  names say what happened

from __future__ import annotations


class IngestError(Exception):
    """Root of everything intake raises on purpose."""


class ConsumerEnded(IngestError):
    """This consumer can't go on; what it had not committed will be read again by the next.

    Its cause, where there is one, says whether another could: FencedOut passes, a fork doesn't.
    """

    @classmethod
    def by(cls, error: Exception) -> ConsumerEnded:
        """The end that an error of the ledger is."""
        ended = cls(str(error))
        ended.__cause__ = error
        return ended


class ClusterUnreachable(IngestError):
    """Kafka does not answer."""


class ImportStopped(IngestError):
    """Something could not be sent, or did not come to be on the record. Doing it again appends nothing twice."""


class RejectedUnknown(IngestError):
    """No rejected entry has this id."""


class Unrepairable(IngestError):
    """A rejected record can't be sent again as it is: it would be refused again."""


class Refused(IngestError):
    """Intake refuses a record. `detail` names members and forms, never values: it stands in a public leaf."""

    def __init__(self, code: str, detail: str) -> None:
        super().__init__(f"{code}: {detail}")
        self.code = code
        self.detail = detail
