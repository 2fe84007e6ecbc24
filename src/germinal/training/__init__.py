"""Training: one visible loop, what feeds it, and the folder that lets it be killed and go on.

Read `loop.train` first. `lora.tune_lora` and `classification.tune_classifier` are what a project's tune steps call;
`tune.tune` chooses between them by the model, for `germinal tune`.
"""
