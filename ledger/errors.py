"""What can go wrong in the ledger.

    LedgerError
    ├── ProofError            a Merkle proof, tile or edge does not give the hash it must give
    ├── MalformedLeaf         a leaf is not what the log format says (what, expected, got)
    ├── LeafTooLarge          an event's public part does not fit a leaf, whatever is moved out of it
    ├── NoteError             a signed note cannot be used
    │   ├── MalformedNote     not a note, key, or checkpoint text by the letter of its specification
    │   ├── UnknownKey        none of its signatures is by a key that was given
    │   └── BadSignature      a signature claims a given key and does not verify
    ├── SealedFieldError      a stored field cannot be opened: another key, or changed bytes (GCM can't tell which)
    ├── KeyStoreError         the key store cannot do what was asked
    │   ├── KeyStoreMissing   there is none at that path, and it was not to be created
    │   ├── KeyStoreExposed   others than its owner can read it
    │   ├── KeyStoreCorrupt   not a key store, damaged, or of a version this code does not know
    │   ├── MissingKey        it holds no such key
    │   └── ForkRefused       a checkpoint that contradicts one already published
    ├── AppendError           a batch was not appended
    │   ├── FencedOut         another consumer has one of its topic partitions
    │   ├── LogMissing        it names a log that is not registered
    │   ├── RunMoved          one of its runs lives in another shard
    │   └── LogRolledBack     the database is behind what was committed or published: an older copy
    ├── TenantError           a tenant cannot be registered as asked, or is not
    ├── DatabaseUnreachable   Postgres does not answer, or not as that role
    └── MigrationMismatch     the database's migrations are not the ones this version ships

A message says what, expected, got, and where. Messages never hold keys or content.
"""

# ruff: noqa: N818  names say what was found (as findings do: leaf_malformed, unknown_key), not that it is an error


class LedgerError(Exception):
    """Root of everything the ledger raises on purpose."""


class ProofError(LedgerError):
    """A Merkle proof, tile or edge does not give the hash it must give."""


class MalformedLeaf(LedgerError):
    """A leaf is not what the log format says."""


class LeafTooLarge(LedgerError):
    """An event's public part does not fit a leaf, whatever is moved out of it."""


class NoteError(LedgerError):
    """A signed note cannot be used."""


class MalformedNote(NoteError):
    """Not a note, a key, or a checkpoint text by the letter of its specification."""


class UnknownKey(NoteError):
    """No signature is by a key that was given."""


class BadSignature(NoteError):
    """A signature claims a given key and does not verify."""


class SealedFieldError(LedgerError):
    """A stored field does not open: it was sealed under another key or place, or its bytes were changed."""


class KeyStoreError(LedgerError):
    """The key store cannot do what was asked."""


class KeyStoreMissing(KeyStoreError):
    """There is no key store at the path, and it was not to be created."""


class KeyStoreExposed(KeyStoreError):
    """Others than its owner can read the key store."""


class KeyStoreCorrupt(KeyStoreError):
    """Not a key store, a damaged one, or one of a version this code does not know."""


class MissingKey(KeyStoreError):
    """The key store holds no such key."""


class ForkRefused(KeyStoreError):
    """A checkpoint contradicts one that was already published: same size with another root, or a smaller size."""

    def __init__(self, origin: str, recorded: tuple[int, bytes], offered: tuple[int, bytes]) -> None:
        self.origin = origin
        self.recorded = recorded
        self.offered = offered
        super().__init__(
            f"checkpoint of {origin} refused: published is size {recorded[0]}, root {recorded[1].hex()}; "
            f"offered is size {offered[0]}, root {offered[1].hex()}"
        )


class AppendError(LedgerError):
    """A batch was not appended."""


class FencedOut(AppendError):
    """Another consumer has a topic partition of the batch: its epoch or next offset is not this consumer's."""


class LogMissing(AppendError):
    """A batch names a log that is not registered."""


class RunMoved(AppendError):
    """Runs of the batch live in other shards; `homes` says where, by tenant and run. `run` and `log` are of one."""

    def __init__(self, homes: dict[tuple[str, str], str]) -> None:
        self.homes = homes
        (self.tenant, self.run), self.log = next(iter(homes.items()))
        more = f", and {len(homes) - 1} more runs live elsewhere" if len(homes) > 1 else ""
        super().__init__(f"run {self.run} of {self.tenant} lives in {self.log}, not where it was to be appended{more}")


class LogRolledBack(AppendError):
    """The database is behind what was committed or published: appending would fork the log."""


class TenantError(LedgerError):
    """A tenant cannot be registered as asked, or is not registered."""


class DatabaseUnreachable(LedgerError):
    """Postgres does not answer, or not as that role."""


class MigrationMismatch(LedgerError):
    """The database's migrations are not the ones this version ships."""
