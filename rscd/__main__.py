"""Run the command line with ``python -m rscd``."""

from rscd.cli.app import main

if __name__ == "__main__":
    main()
