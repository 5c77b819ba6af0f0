"""`python -m vmaftune`: the same as `vmaf-tune`."""

from vmaftune.cli import main

main()
