"""``python -m prisbench.cli``, where the command is not on the path."""

from prisbench.cli.main import main

main()
