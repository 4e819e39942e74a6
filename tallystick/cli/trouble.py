"""What a person is told when something could not be done: our errors and the drivers' as one line each."""

from __future__ import annotations

import errno
import sys
from typing import Final

from tallystick.errors import TallyError, how_to_install

OURS: Final = frozenset({"schemas", "ledger", "ingest", "projections", "replay", "tallystick"})

_ROOTS: Final = (
    ("schemas.errors", "SchemaError"),
    ("ledger.errors", "LedgerError"),
    ("ingest.errors", "IngestError"),
    ("replay.errors", "ReplayError"),
)
# Of a write to a file that is open, standard output before all; such an error has no file name.
_UNWRITABLE: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EBADF})
# By the error's class, then its bases: what to do about it.
_FIXES: Final = {
    "DatabaseUnreachable": "Check that Postgres runs, TALLY_POSTGRES_URL, and which roles its login was granted.",
    "MigrationMismatch": "Use the version of Tallystick that the database was migrated with, or a newer one.",
    "ClusterUnreachable": "Check that Kafka runs, and TALLY_KAFKA_BOOTSTRAP.",
    "MissingKey": "Set TALLY_KEYSTORE to the key store of this database, or restore it from its backup.",
    "KeyStoreMissing": "Start the ledger once, or set TALLY_KEYSTORE.",
    "ForkRefused": "Stop writers; docs/operations.md, Backup and restore, says how to go on.",
    "LogRolledBack": "Stop writers; docs/operations.md, Backup and restore, says how to go on.",
    "LogMissing": "See `tally tenant list`.",
    "TenantError": "See `tally tenant list`.",
}


def told(error: BaseException) -> TallyError | None:
    """The error as a person is told it; None for a defect of ours."""
    if isinstance(error, TallyError):
        return error
    if isinstance(error, BaseExceptionGroup):
        return told(error.exceptions[0])
    if isinstance(error, ModuleNotFoundError):
        missing = (error.name or "").split(".")[0]
        if missing in OURS:
            return None
        extra = "server,demo" if missing == "pydantic_ai" else "server"
        return TallyError(f"the package {missing} is not installed", f"Install it: {how_to_install(extra)}.")
    if any(_is(error, module, name) for module, name in _ROOTS):
        return TallyError(str(error).rstrip("."), _fix(error))
    if _is(error, "psycopg", "Error"):
        return TallyError(f"Postgres: {_first_line(error)}", "Check that it runs; then try again.")
    if _is(error, "aiokafka.errors", "KafkaError"):
        return TallyError(f"Kafka: {_first_line(error) or type(error).__name__}", _FIXES["ClusterUnreachable"])
    if isinstance(error, OSError) and error.filename is not None:
        return TallyError(f"{error.filename}: {error.strerror or error}")
    if isinstance(error, OSError) and error.errno in _UNWRITABLE:
        return TallyError(f"output can't be written: {error.strerror}", "What was written of it is not whole.")
    return None


def _is(error: BaseException, module: str, name: str) -> bool:
    """Whether it is of a class of a module that may not have been imported: then it can't be."""
    found = sys.modules.get(module)
    return found is not None and isinstance(error, getattr(found, name))


def _fix(error: BaseException) -> str:
    for kind in type(error).__mro__:
        if kind.__name__ in _FIXES:
            return _FIXES[kind.__name__]
    return ""


def _first_line(error: BaseException) -> str:
    return str(error).strip().split("\n", 1)[0].rstrip(".")
