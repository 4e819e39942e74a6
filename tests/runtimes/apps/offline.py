"""No network: a connection to anywhere but this machine's loopback, or a name to be looked up, is refused and told.

Frameworks have telemetry of their own to switch off, and models that fetch lists; imported first, this holds whatever
Python code of theirs may try. (Native code is outside of it: the gRPC exporter, which only gets a loopback address.)
"""

from __future__ import annotations

import ipaddress
import os
import sys
from typing import Any

SWITCHES = {
    "OTEL_SDK_DISABLED": "false",
    "OPENAI_AGENTS_DISABLE_TRACING": "false",  # its own exporter is taken out; the processors stay
    "OPENAI_API_KEY": "none",
    "LANGSMITH_TRACING": "false",
    "LANGCHAIN_TRACING_V2": "false",
    "HF_HUB_OFFLINE": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "DO_NOT_TRACK": "1",
    "GOOGLE_CLOUD_PROJECT": "",
    "PYTHONDONTWRITEBYTECODE": "1",
}

attempts: list[str] = []
"""What tried to leave this machine, as `event address`."""


def _is_here(host: str | bytes | None) -> bool:
    if not host:
        return True
    name = host.decode() if isinstance(host, bytes) else str(host)
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return name == "localhost"


def _refuse_network(event: str, arguments: tuple[Any, ...]) -> None:
    if event == "socket.connect":
        address = arguments[1]
        here = not isinstance(address, tuple) or _is_here(address[0])
    elif event in ("socket.getaddrinfo", "socket.gethostbyname"):
        here, address = _is_here(arguments[0]), arguments[0]
    else:
        return
    if not here:
        attempts.append(f"{event} {address!r}")
        raise OSError(f"no network here: {event} {address!r}")


os.environ.update(SWITCHES)
sys.addaudithook(_refuse_network)
