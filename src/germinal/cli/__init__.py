"""The command line: one file a command, and nothing heavy is imported before a command needs it.

A command reads its options, calls a function of a lower floor and prints what comes back; what another front end would
need too is below. Results go to standard output, progress, questions and errors to standard error.

`main` is the program; `options`, `inputs` and `paths` are what commands share, `views` is what they show.
"""
