"""The report of a split as one HTML file: tables, figures, and sampled questions with what their answers rest on.

The file needs no network. Its Content-Security-Policy allows its own style sheet and script and nothing else:
passages, rationales and answers were written by people and models and are not to be trusted with a browser.

In reading order:

    text        text made visible; shares, amounts and money as the page writes them; its tables
    drawing     colours, marks and lines; a matplotlib figure as inline SVG
    figures     the five kinds of figure, and the points and curves that they show
    sections    the six parts of the page: accuracy, size, retrieval, failures, costs, rationales
    questions   which questions are sampled, and a question's trace as the page shows it
    write       the page: read from the store, rendered with page.html, page.css and page.js, written;
                its first parts alone, for `kard ui`

`kard report TASK --html FILE` calls `write.write_page`. It grades the answers of the split, makes a `Point` of each
condition, lets each function of `sections` read the rest that it needs, and traces the sampled questions
(`kard.evaluation.trace`). A question keeps its passages, numbered, with their rank in each list and who read them.
"""
