"""One thin command-line file a stage: read params and tables, call one library function, write the outs."""

import os

# Threads that spin while they wait make two torch processes on the same cores ten times slower; it must be set before torch loads.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
