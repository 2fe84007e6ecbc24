"""Text generation over token ids: settings, processors, sampler, sequences, scheduler, engine, and the backends that
run the network.
"""
