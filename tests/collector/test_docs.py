"""The configurations in docs/collector are those of the page, and write what intake reads, where it reads it."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from ingest.authority import TOPIC_PATTERN, is_otlp, signal_of
from tallystick.servers.topics import MESSAGE_BYTES_MAX, TOPICS
from tests.collector.records import FOLDER

DOCS = Path(__file__).parents[2] / "docs"
PAGE = (DOCS / "collector.md").read_text(encoding="utf-8")
FILES = sorted((DOCS / "collector").glob("*.yaml"))
SIGNAL = {"traces": "spans", "logs": "logs"}  # the Collector's word for it, and ours
GATEWAY_BYTES_MAX = 64 * 1024 * 1024  # after decompression


def config(file: Path) -> dict[str, Any]:
    return dict(YAML(typ="safe").load(file.read_text(encoding="utf-8")))


def kafka_exporters() -> list[tuple[str, dict[str, Any]]]:
    return [
        (f"{file.stem}: {name}", settings)
        for file in FILES
        for name, settings in config(file)["exporters"].items()
        if name.partition("/")[0] == "kafka"
    ]


def test_every_file_is_told_of_and_has_its_variables_named() -> None:
    assert [file.name for file in FILES] == ["collector.yaml", "gateway.yaml", "tenants.yaml"]
    for file in FILES:
        assert f"(collector/{file.name})" in PAGE
        text = file.read_text(encoding="utf-8")
        head = text[: text.index("extensions:")]
        named = set(re.findall(r"\$\{env:([A-Z_]+)", text))
        assert {name for name in named if not re.search(rf"\b{name}\b", head)} == set()


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_every_part_that_a_pipeline_names_is_there_and_used(file: Path) -> None:
    parts = config(file)
    used: dict[str, set[str]] = {"extensions": set(parts["service"]["extensions"])}
    for pipeline in parts["service"]["pipelines"].values():
        for part, names in pipeline.items():
            used.setdefault(part, set()).update(names)
    assert used == {part: set(parts[part]) for part in used}
    kinds = {name.partition("/")[0] for name in parts["service"]["pipelines"]}
    assert kinds == SIGNAL.keys()


@pytest.mark.parametrize(("name", "exporter"), kafka_exporters())
def test_an_exporter_writes_what_intake_reads_to_topics_that_it_reads(name: str, exporter: dict[str, Any]) -> None:
    tenant = name.partition("/")[2]
    for signal, ours in SIGNAL.items():
        topic = exporter[signal]["topic"]
        assert re.search(TOPIC_PATTERN, topic)
        assert is_otlp(topic)
        assert signal_of(topic) == ours
        assert topic == f"tally.otlp.{ours}.{tenant}" if tenant else topic in TOPICS
        assert exporter[signal]["encoding"] == "otlp_proto"


@pytest.mark.parametrize(("name", "exporter"), kafka_exporters())
def test_nothing_that_was_acknowledged_is_given_up(name: str, exporter: dict[str, Any]) -> None:
    producer, queue = exporter["producer"], exporter["sending_queue"]
    assert producer["required_acks"] == "all"
    assert producer["allow_auto_topic_creation"] is False
    assert exporter["retry_on_failure"]["max_elapsed_time"] == "0s"
    assert queue["storage"] == "file_storage"
    # Framing and headers stand between a batch, its record, and what the topic takes.
    assert queue["batch"]["max_size"] < producer["max_message_bytes"] < MESSAGE_BYTES_MAX
    assert queue["batch"]["sizer"] == queue["sizer"] == "bytes"
    assert exporter["partition_traces_by_id"] is exporter["partition_logs_by_trace_id"] is True


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_a_queue_is_on_disk_and_a_request_may_be_as_large_as_for_the_gateway(file: Path) -> None:
    parts = config(file)
    assert parts["extensions"]["file_storage"]["fsync"] is True
    assert all(one["sending_queue"]["storage"] == "file_storage" for one in parts["exporters"].values())
    for receiver in parts["receivers"].values():
        for protocol, settings in receiver["protocols"].items():
            limit = settings["max_request_body_size"] if protocol == "http" else settings["max_recv_msg_size_mib"] << 20
            assert limit == GATEWAY_BYTES_MAX


def test_a_tenants_receiver_asks_for_its_token_over_tls() -> None:
    parts = config(DOCS / "collector" / "tenants.yaml")
    for name, receiver in parts["receivers"].items():
        tenant = name.partition("/")[2]
        (http,) = receiver["protocols"].values()
        assert http["auth"]["authenticator"] == f"bearertokenauth/{tenant}"
        assert http["tls"].keys() == {"cert_file", "key_file"}
        pipelines = [one for one in parts["service"]["pipelines"].values() if name in one["receivers"]]
        assert [one["exporters"] for one in pipelines] == [[f"kafka/{tenant}"]] * 2


def test_the_page_and_the_captures_are_of_the_same_versions() -> None:
    readme = (FOLDER / "README.md").read_text(encoding="utf-8")
    versions = re.compile(r"Collector (\d+\.\d+\.\d+)|Kafka (\d+\.\d+\.\d+)|SDK (\d+\.\d+\.\d+)")
    assert (
        {match.group() for match in versions.finditer(PAGE)}
        == {match.group() for match in versions.finditer(readme)}
        != set()
    )


def test_the_page_says_what_the_files_set() -> None:
    for value in ("16000000", "15000000", "0s", "fsync: true", "num_consumers: 1", "allow_auto_topic_creation: false"):
        assert f"`{value}`" in PAGE or value in PAGE
        assert all(value in file.read_text(encoding="utf-8") for file in FILES if file.stem in ("collector", "tenants"))


def test_captures_were_made_with_the_page_s_own_configuration_too() -> None:
    index = json.loads((FOLDER / "records.json").read_text(encoding="utf-8"))
    assert len([one for one in index if one["exporter"] == "docs/collector/collector.yaml"]) == 6
