"""`python -m bench --name NAME --size SIZE`: run one benchmark, or all, and write bench/results/NAME.json."""

from __future__ import annotations

import argparse
import asyncio
import importlib

NAMES = ("append", "latency", "growth", "verify", "otlp")


def main() -> None:
    parser = argparse.ArgumentParser(prog="make bench")
    parser.add_argument("--name", choices=(*NAMES, "all"), default="all")
    parser.add_argument("--size", choices=("small", "full"), default="full")
    arguments = parser.parse_args()
    for name in NAMES if arguments.name == "all" else (arguments.name,):
        asyncio.run(importlib.import_module(f"bench.{name}").measure(arguments.size)).write()


if __name__ == "__main__":
    main()
