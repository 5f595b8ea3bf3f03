"""An nsys that misbehaves in one way, as an executable script; what it starts can be looked for afterwards.

In: a folder, a way. Out: the script. `hang` starts a sleeping agent in a session of its own, as nsys's agent is, and never
ends; `killed` kills itself; `full` says that the disk is full; `silent` leaves no report; `foreign` exports another database.
"""

import sys
from pathlib import Path

SCRIPT = """#!{python}
import os, signal, sqlite3, subprocess, sys, time
way, version, agent_file = {way!r}, {version!r}, {agent!r}
if sys.argv[1:] == ["--version"]:
    if way == "no-version-answer":
        time.sleep(600)
    print(version)
    sys.exit(0)
options = [a for a in sys.argv[2:] if a.startswith("--")]
output = next(a.split("=", 1)[1] for a in options if a.startswith("--output="))
if sys.argv[1] == "profile":
    command = sys.argv[2 + len(options):]
    if way == "hang":
        agent = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"], start_new_session=True)
        open(agent_file, "w").write(str(agent.pid))
        time.sleep(600)
    if way == "killed":
        os.kill(os.getpid(), signal.SIGKILL)
    if way == "full":
        print("write: No space left on device", file=sys.stderr)
        sys.exit(1)
    if way == "silent":
        print("Processing [====50%    ]\\rThe target said no.")
        sys.exit(1)
    code = subprocess.run(command, env=os.environ | {extra!r}).returncode
    open(output + ".nsys-rep", "w").write("a report")
    sys.exit(code)
base = sqlite3.connect(output)
base.execute("CREATE TABLE songs (name TEXT)")
base.commit()
"""


def write_fake(
    folder: Path, way: str, *, version: str = "NVIDIA Nsight Systems version 2024.1.1", extra: dict | None = None
) -> Path:
    """`extra`: environment that it gives to what it profiles."""
    path = folder / "nsys-of-the-test"
    agent = str(folder / "agent.pid")
    text = SCRIPT.format(python=sys.executable, way=way, version=version, agent=agent, extra=extra or {})
    path.write_text(text, encoding="utf-8")
    path.chmod(0o755)
    return path
