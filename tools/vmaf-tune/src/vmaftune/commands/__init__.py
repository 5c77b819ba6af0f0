"""One file per command: arguments, a library call, and what the user sees of it."""
