"""Training: one visible loop, what feeds it, and the folder that lets it be killed and go on.

Read `loop.train` first. `lora.tune_lora` is what a project's tune step and `germinal tune` call.
"""
