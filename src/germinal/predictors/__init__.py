"""What answers a use case: a language model with prompt, shots, adapter, rule and priors; a model with a head for the
labels; or a plain baseline.

Every predictor answers inputs (`predict`), and can be saved as a folder, loaded, evaluated and served.
"""
