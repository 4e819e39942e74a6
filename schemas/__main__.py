"""`python -m schemas`: write the published JSON Schemas anew, and say which files changed."""

from __future__ import annotations

import sys

from schemas import publish

changed = publish.write()
sys.stdout.write("".join(f"{path.name}\n" for path in changed) or "nothing changed\n")
