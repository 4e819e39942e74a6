"""`tally up`."""

from __future__ import annotations

from tallystick.cli.output import note


def up() -> None:
    """Run everything until stopped: Postgres, Kafka, the consumer and the OTLP gateway.

    Servers are embedded ones, under TALLY_HOME, unless TALLY_POSTGRES_URL or TALLY_KAFKA_BOOTSTRAP name yours. When all
    is ready, addresses and passwords are in $TALLY_HOME/endpoints.json, where the other commands find them.

    Any OpenTelemetry SDK can send to it: OTLP over HTTP at 127.0.0.1:4318, over gRPC at 127.0.0.1:4317. Where those
    ports are another program's it says so and takes free ones, the same at each start. TALLY_OTLP_HTTP and
    TALLY_OTLP_GRPC set others.

    \b
    Examples:
      tally up
      TALLY_HOME=/srv/tally tally up
      OTEL_EXPORTER_OTLP_ENDPOINT=http://127.0.0.1:4318 python my_agent.py
    """
    from tallystick.cli.until_signal import until_signal
    from tallystick.endpoints import hold
    from tallystick.settings import load_settings

    settings = load_settings()
    with hold(settings) as home:
        from tallystick.logs import configure
        from tallystick.servers.progress import progress_bar
        from tallystick.up import serve

        configure()
        until_signal(serve(settings, home, note, progress_bar))
