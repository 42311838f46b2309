"""The `millrace` command: one subcommand a file, and the one place that says what runs."""

import os

# gRPC's core tells of every closed connection on stderr, across whatever is drawn there. It reads
# this when it is loaded, so it is set before anything is imported.
os.environ.setdefault("GRPC_VERBOSITY", "NONE")
