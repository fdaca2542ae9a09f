"""The program ``circuit-scaling``."""

import signal
import sys

from ._native import run_program


def main() -> None:
    """Runs the program with this process's arguments and exits with its exit code."""
    # The program computes in native code, where Python's own signal handler would never run.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    sys.exit(run_program(["circuit-scaling", *sys.argv[1:]]))
