"""``python -m prisbench``, where the command is not on the path."""

from prisbench.cli.main import main

main()
