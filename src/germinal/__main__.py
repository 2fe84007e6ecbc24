"""`python -m germinal` is the command line."""

from germinal.cli.main import main

main()
