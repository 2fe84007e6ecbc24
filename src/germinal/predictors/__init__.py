"""What answers a use case: a language model with prompt, shots, adapter, rule and priors, a model with a head for the
labels, or a plain baseline.

Every predictor answers inputs (`predict`) and is a folder that can be saved, loaded, evaluated and served.
"""
