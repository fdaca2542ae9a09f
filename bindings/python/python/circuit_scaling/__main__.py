"""``python -m circuit_scaling``: the program."""

from ._command import main

main()
