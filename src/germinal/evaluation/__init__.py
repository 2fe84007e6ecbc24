"""How good a candidate is, how certain that is, and which one is better: metrics, intervals, tests, selection, success.

    sample = Sample.from_answers(targets, answers, labels)      # sample: one trial's answers beside the targets
    METRICS["f1_macro"].point(sample)                           # metrics: scikit-learn's values
    estimate("f1_macro", [sample])                              # evaluator: a value with its interval
    compare("f1_macro", [sample], [other])                      # evaluator: a difference, its interval, its paired test
    choose("f1_macro", candidates, work)                        # selection: the tied set, and the cheapest of it
    judge(0.8, estimate("f1_macro", [sample]), METRICS["f1_macro"])  # success: reached, not shown or missed
    detectable_difference(300)                                  # power: the smallest difference that 300 rows detect

A candidate is always a sequence of samples: its replicates (choices of examples, seeds) over the same rows. Its value
is the mean over the replicates, and the bootstrap resamples rows, not replicates. References: Miller 2024 (arXiv
2411.00640), Bowyer et al. 2025 (arXiv 2503.01747).
"""
