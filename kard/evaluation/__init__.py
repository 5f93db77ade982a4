"""Let students answer questions under conditions, then say how good the answers are and why they are wrong.

A condition is one line of the report: a student, the retriever that it reads from, k, and the decoding. All
students and retrievers are compared on the same questions.

How a question travels:

    question     of the evaluated split, not yet answered under the condition      answer.unanswered
    passages     the first k of the condition's retriever, from the store          condition.passages_read
    samples      texts that the student writes in the task's own DSPy program      answer.predictions
    vote         the commonest option that the samples conclude on                 kard.answers.vote
    prediction   the vote with its texts and passages, committed at once           answer.answer
    report       accuracy with its interval, beside what an answer costs           report.report_rows
    comparison   wins, losses, interval and p against another condition            compare.compare
    verdict      if the answer is wrong: what failed, from knowledge to student    failures.read_failures

Modules that make answers, in reading order:

    condition           a condition, its hash, and the passages that it gives to each question
    answer              answer all that is unanswered under many conditions, in shared batches
    ask                 answer one new question, with passages from a live search
    rescore             read stored texts again with a newer parser; nothing is generated

Modules that judge answers, in reading order:

    condition_names     labels that tell conditions apart, their order in tables, names that people type
    graded              graded answers of the store or of an exported file, grouped by condition and seed
    report              a report row for each condition, and its tables
    over_seeds          intervals that resample trainings too
    compare             conditions against each other: bootstrap interval, exact p, Holm's correction
    retriever_metrics   Hits@k, MRR, nDCG and recall of every stored order of passages; a plot
    failures            the verdict on every wrong answer, and their counts
    judgements          what people say of passages and rationales; it overrides what is computed
    trace               everything that happened to one question
    rationale_quality   are a teacher's rationales right, different and grounded?
    contamination       evaluated questions whose text stands in training questions or passages
    export              graded answers and hits as files, and the tables that those files give
    page/               the report as one HTML file

Each question is answered once per condition and never asked again: answering goes on where it
was interrupted. Reports, comparisons and verdicts are computed from the rows each time and never stored. They say
"not distinguishable" or "undetermined" where the rows do not decide.
"""
