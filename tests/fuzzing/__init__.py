"""A fuzzing harness: files that a user may get from others are damaged, and whatever reads them works or raises a
GerminalError, in bounded time and memory.

    made_models.py, made_work.py
                  small valid files of every kind
    samples.py    what a user does with each
    mutations.py  structure-aware damage of a file, drawn from a seed
    loads.py      one process: damaged copies are read one after another, and each outcome is a line
    harness.py    starts such processes, and starts them anew behind a load that killed one

A failure is repeated by its number, in tests/: `python -m fuzzing.loads FOLDER 4711 1`, with the samples' folder, which
`python -c 'from fuzzing.samples import *; write_all(Path("FOLDER"))'` writes.
"""
