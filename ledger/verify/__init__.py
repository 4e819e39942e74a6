"""Verification: everything recomputed from Postgres, nothing in it believed. See `run` for the steps.

report      findings and verdicts                    pure
rows        rows by binary COPY                      I/O
entries     leaves and columns                       pure, hot
fields      content against commitments              pure, hot
heads       leaves of the heads log
work        one range of one log                     I/O, in worker processes
tree        roots and tiles from leaf hashes         pure
logs        one log, as its ranges come in           pure
located     which entries were touched               pure
settle      which side is right; tiles; head         I/O
spool, cross, accounts, partitions                   checks across ranges
claims, marks                                        what is held outside the database
plan        how far each log goes                    I/O
ranges      which range a process checks next        pure
pool, run                                            the whole of it
"""

from ledger.verify.report import Finding, LogState, Report
from ledger.verify.run import verify

__all__ = ["Finding", "LogState", "Report", "verify"]
