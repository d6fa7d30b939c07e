"""One thin command-line file per stage: read params and tables, call one library function, write the outs."""

import gc
import os
import sys

from pipeline.endings import end_uncaught

# Both must be set before torch and tqdm load. Threads that spin while they wait make two torch processes on the same cores ten
# times slower; libraries' own progress bars would garble the log (ours ask to be shown).
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ.setdefault("TQDM_DISABLE", "1")

# Importing torch and diffusers makes a million objects that stay; looking through them for garbage again and again took a second.
gc.set_threshold(100_000, 50, 50)

if sys.argv[:1] == ["-m"]:  # a stage is about to be loaded as a command: a package that is missing ends in a sentence too
    sys.excepthook = end_uncaught
