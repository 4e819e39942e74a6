"""FastStream takes TLS and SASL settings as objects of its own; this makes them from aiokafka's arguments. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from faststream.security import BaseSecurity, SASLPlaintext, SASLScram256, SASLScram512

_MECHANISMS: Mapping[str, type[SASLPlaintext | SASLScram256 | SASLScram512]] = {
    "PLAIN": SASLPlaintext,
    "SCRAM-SHA-256": SASLScram256,
    "SCRAM-SHA-512": SASLScram512,
}
_OURS = frozenset({"security_protocol", "ssl_context", "sasl_mechanism", "sasl_plain_username", "sasl_plain_password"})


def broker_options(client: Mapping[str, Any]) -> dict[str, Any]:
    """Arguments for a FastStream broker that connects as an aiokafka client with these arguments would."""
    others = {name: value for name, value in client.items() if name not in _OURS}
    protocol = client.get("security_protocol", "PLAINTEXT")
    tls = {"ssl_context": client.get("ssl_context"), "use_ssl": protocol.endswith("SSL")}
    if protocol.startswith("SASL"):
        mechanism = _MECHANISMS[client["sasl_mechanism"]]
        return others | {
            "security": mechanism(client["sasl_plain_username"], client["sasl_plain_password"], **tls),
        }
    return others | {"security": BaseSecurity(**tls)}
