"""The command line: one module a command, nothing but arguments, calls and printing."""
