"""One thread for each test process, so that parallel processes do not wait for each other.

Set before torch is imported; what it reads then cannot be changed later.
"""

import os

if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.setdefault("OMP_NUM_THREADS", "1")
