"""How good is it, how sure can one be, and which one is better: metrics, intervals, paired tests, selection, success.

    sample = Sample.from_answers(targets, answers, labels)      # sample: what one trial said, beside the truth
    METRICS["f1_macro"].point(sample)                           # metrics: scikit-learn's figures
    estimate("f1_macro", [sample])                              # evaluator: a value with its interval
    compare("f1_macro", [sample], [other])                      # evaluator: a difference, its interval, its paired test
    choose("f1_macro", candidates, work)                        # selection: the tied set, and the least work in it
    judge(0.8, estimate("f1_macro", [sample]), METRICS["f1_macro"])  # success: reached, not shown or missed
    detectable_difference(300)                                  # power: what so much data can tell apart

Everywhere a candidate is a sequence of samples, its replicates (choices of examples, seeds) over the same rows: its
figure is the mean over them, and rows, not replicates, are what is drawn again. References: Miller 2024 (arXiv
2411.00640), Bowyer et al. 2025 (arXiv 2503.01747).
"""
