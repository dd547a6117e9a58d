"""What all tests rest on: one thread for each test process, and a Ctrl-C that arrives.

Threads: so that parallel processes do not wait for each other; set before torch is imported, since
what it reads then cannot be changed later. Ctrl-C: a shell that starts the tests in the background
lets them ignore SIGINT, and the commands that they start would inherit that.
"""

import os
import signal

if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.setdefault("OMP_NUM_THREADS", "1")

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
