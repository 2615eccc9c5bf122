"""A checkout whose programs run in processes of their own, with its modules and no others."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

PROBE = Path(__file__).with_name("probe.py")


class Side:
    """One of the two checkouts. Use it as a context: leaving it ends the probe.

    Args:
      checkout: root of the checkout. Nothing is written there.
      scratch: folder for what its processes write.
    """

    def __init__(self, checkout: Path, scratch: Path):
        self.checkout, self.scratch = checkout, scratch
        scratch.mkdir(parents=True)
        environment = {k: v for k, v in os.environ.items() if not k.startswith("PYTHON")}
        self._environment = environment | {
            "PYTHONPATH": str(checkout),
            "PYTHONDONTWRITEBYTECODE": "1",
            "NUMBA_CACHE_DIR": str(scratch / "numba"),
            "JAX_COMPILATION_CACHE_DIR": "",  # each side runs what it has compiled itself
        }
        self._probe: subprocess.Popen[str] | None = None

    def __enter__(self) -> "Side":
        return self

    def __exit__(self, *_: object) -> None:
        if self._probe:
            self._probe.stdin.close()
            self._probe.stdout.close()
            self._probe.wait()

    def run(self, *command: str) -> None:
        """Runs Python with these arguments in the checkout.

        Raises:
          ValueError: it failed; the message has the last line of what it said.
        """
        done = subprocess.run(
            [sys.executable, *command],
            cwd=self.checkout,
            env=self._environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        if done.returncode:
            last = (done.stderr.strip() or "it said nothing").splitlines()[-1]
            raise ValueError(f"{self.checkout}: {' '.join(command)} failed: {last}")

    def ask(self, name: str, **arguments: Any) -> dict[str, Any]:
        """The probe's answer to a request; see probe.py. The first request starts the probe.

        Raises:
          ValueError: the probe ended; its error is on stderr.
        """
        if self._probe is None:
            self._probe = subprocess.Popen(
                [sys.executable, str(PROBE)],
                cwd=self.checkout,
                env=self._environment,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )
        self._probe.stdin.write(json.dumps({"ask": name, **arguments}) + "\n")
        self._probe.stdin.flush()
        line = self._probe.stdout.readline()
        if not line:
            raise ValueError(f"{self.checkout}: the probe ended at '{name}'; its error is above")
        return json.loads(line)
