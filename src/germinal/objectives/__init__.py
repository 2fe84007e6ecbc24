"""Every loss of the project as a pure tensor function: tensors in, a number out, no model, no data, no loop.

Shapes: B batch, T positions, N labelled positions, D hidden, V vocabulary.
"""
