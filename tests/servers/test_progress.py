"""What a first start shows."""

from __future__ import annotations

import io

from rich.console import Console

from tallystick.servers.progress import progress_bar


def test_a_bar_on_a_terminal() -> None:
    screen = io.StringIO()
    with progress_bar(Console(file=screen, force_terminal=True, width=100)) as report:
        report("Fetching Apache Kafka", 0, 40)
        report("Fetching Apache Kafka", 30, 40)
    assert "Fetching Apache Kafka" in screen.getvalue()
    assert "75%" in screen.getvalue()


def test_a_line_each_elsewhere() -> None:
    screen = io.StringIO()
    with progress_bar(Console(file=screen, force_terminal=False)) as report:
        for done in range(4):
            report("Fetching Apache Kafka", done, 4)
        report("Starting Kafka", 0, 1)
    assert screen.getvalue().splitlines() == ["Fetching Apache Kafka …", "Starting Kafka …"]
