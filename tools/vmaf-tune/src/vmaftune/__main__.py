"""`python -m vmaftune`: the same as `vmaf-tune`."""

from vmaftune.cli import main

if __name__ == "__main__":  # processes of a local cluster import this module again
    main()
