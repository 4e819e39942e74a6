"""How settings, database and key store are made to agree on one ledger before anything is written to it.

Guarantees: no new key store is begun for a database that has logs, and no second prefix; either would make a ledger
that signs with other keys, or a second one beside the first.
"""

from __future__ import annotations

from ledger.db import Connection
from ledger.keystore import STORE_FILE, SqliteKeyStore
from tallystick.errors import TallyError
from tallystick.settings import Settings

_SYSTEM = "/_system"


async def open_keystore(conn: Connection, settings: Settings) -> SqliteKeyStore:
    """The key store to write with; begun where neither it nor any log is there. Raises TallyError, KeyStoreError."""
    cursor = await conn.execute("SELECT EXISTS (SELECT FROM logs)")
    row = await cursor.fetchone()
    begun = row is not None and row[0]
    if begun and not (settings.keys / STORE_FILE).exists():
        raise TallyError(
            f"the database has logs, but there is no key store at {settings.keys}",
            "Set TALLY_KEYSTORE to the one they were begun with, or restore it; a new one can't sign for them.",
        )
    return SqliteKeyStore(settings.keys)


async def origin_prefix(conn: Connection, settings: Settings, keystore: SqliteKeyStore) -> str:
    """What the origins of this ledger's logs begin with: as its logs have it, as it is set, or the key store's own.

    Raises TallyError where the setting disagrees with the logs: the prefix is in every leaf.
    """
    cursor = await conn.execute("SELECT log FROM logs WHERE class = 'system' ORDER BY log")
    found = [row[0].removesuffix(_SYSTEM) for row in await cursor.fetchall()]
    wanted = settings.origin_prefix or (found[0] if len(found) == 1 else keystore.prefix())
    if found and wanted not in found:
        raise TallyError(
            f"the logs of this database begin with {' and '.join(found)}, not with {wanted}",
            "Correct or unset TALLY_ORIGIN_PREFIX: it is in every leaf and can't be changed later.",
        )
    return wanted
