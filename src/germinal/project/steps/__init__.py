"""The kinds of steps, one file each: a new stage of the life cycle is a new file here, and a role in `StepGraph`.

Beside them is what they share: keys, the loaded model, outputs row by row, memory, the environment.
"""
