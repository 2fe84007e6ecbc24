"""The command line: one file a command, nothing heavy imported before a command needs it.

A command reads its options, calls a function of a lower floor and prints what comes back; what another front end would
need too lives below. Results go to standard output; progress, questions and errors go to standard error.
"""
