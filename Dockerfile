# The consumer and the command line. Servers are images of their own: see compose.yaml.
FROM python:3.11-slim

ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1

# The lock holds the tools for tests too; in the same layer they go again.
COPY requirements.lock /build/
RUN pip install --require-hashes --requirement /build/requirements.lock \
 && pip uninstall --yes --quiet mypy ruff pytest pytest-asyncio pytest-timeout hypothesis testcontainers docker \
        pymerkle import-linter grimp

COPY pyproject.toml README.md LICENSE /build/
COPY schemas /build/schemas
COPY ledger /build/ledger
COPY ingest /build/ingest
COPY projections /build/projections
COPY replay /build/replay
COPY tallystick /build/tallystick
RUN pip install --no-deps --no-build-isolation /build \
 && rm -rf /build \
 && useradd --system --uid 10001 --no-create-home tally \
 && install --directory --owner tally --mode 0700 /var/lib/tally

# Keys and the published-checkpoint record. A volume belongs here, and it must not be the database's.
ENV TALLY_HOME=/var/lib/tally
VOLUME ["/var/lib/tally"]
USER tally
WORKDIR /var/lib/tally
ENTRYPOINT ["tally"]
CMD ["ingest"]
