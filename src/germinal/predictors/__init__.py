"""What answers a use case: a language model with prompt, shots, adapter, rule and priors, or a plain baseline."""
