"""Statistics and measures of rankings: pure functions over numbers, without store, files or models.

    intervals     shares with Wilson's 95% interval; mean and deviation over seeds
    bootstrap     95% intervals of means by resampling questions, alone and of paired differences
    significance  exact tests of two conditions on the same questions, and Holm's correction
    ranking       Hits@k, MRR, nDCG and recall of an order of passages

A question is always the unit that is counted or resampled: several seeds of a student are several answers to the
same questions, never more questions.
"""
