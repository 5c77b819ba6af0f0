"""`vmaf-tune`, and `python -m vmaftune`."""

from __future__ import annotations

import sys


def main() -> None:
    """Run the command line. Ctrl-C while it loads ends it like Ctrl-C later on."""
    try:
        from vmaftune import cli  # a third of a second, in which Ctrl-C would be a traceback
    except KeyboardInterrupt:
        print("error: interrupted", file=sys.stderr)
        sys.exit(130)
    cli.main()


if __name__ == "__main__":  # processes of a local cluster import this module again
    main()
