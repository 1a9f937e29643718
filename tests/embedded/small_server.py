"""A small real server for the supervisor's tests; run as `small_server.py MANNER FOLDER`.

It is healthy once FOLDER/healthy exists. MANNER: plain; stubborn (ignores SIGTERM); parent (has a child in its
session); escaping (has a child in a session of its own); broken (says why on standard error and ends).
"""

import signal
import subprocess
import sys
import time
from pathlib import Path

manner, folder = sys.argv[1], Path(sys.argv[2])
folder.mkdir(parents=True, exist_ok=True)
if manner == "broken":
    sys.stderr.write("the disk is made of cheese\n")
    sys.exit(3)
if manner == "stubborn":
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
if manner in {"parent", "escaping"}:
    command = [sys.executable, __file__, "stubborn" if manner == "escaping" else "plain", str(folder / "child")]
    child = subprocess.Popen(command, start_new_session=manner == "escaping")
    while not (folder / "child" / "healthy").exists():
        time.sleep(0.01)
(folder / "healthy").touch()
while True:
    time.sleep(60)
