"""A double of the FTS3 REST service: the real protocol, real TLS and real copies, in one process.

Start it with `fts3_double.run.start_double(folder)`; README.md beside this file lists options and faults.
"""
