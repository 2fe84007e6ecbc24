"""Training: one visible loop, the data it reads, and the folder from which a killed run is resumed.

Read `loop.train` first. `lora.tune_lora` and `classification.tune_classifier` are what a project's tune steps call;
`tune.tune` chooses between them by the model, for `germinal tune`.
"""
