"""Training: one visible loop, the data it reads, and the folder from which a killed run is resumed.

Read `loop.train` first. `lora.tune_lora` and `classification.tune_classifier` are what a project's tune steps and
`germinal tune` call.
"""
