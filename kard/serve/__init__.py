"""The inference program as a server that speaks OpenAI's protocol: `kard serve`.

In reading order:

    wire       what a request may hold and what an answer looks like; no server here
    students   the students of a store, loaded when they are first asked; passages
    desk       how many requests are accepted at a time, and the threads that answer them
    metrics    counters, in the text form that Prometheus reads
    app        routes, keys, refusals, streams and the page at `/`
    server     the address, the port and the end

A request goes through it as follows. `app` reads its body up to a limit, `wire` makes a `ChatRequest` of it and
`students` finds the student that it names. `desk` gives it a place, or refuses it if all are taken. A thread lets
`kard.evaluation.ask` run the task's own program; the program's retrieval is done by the one thread that holds the
store and the knowledge base. What the student is to write waits in its base's queue (`student.generation.engine`),
where a batch takes requests of any of that base's students. `wire` writes the answer. So a served answer is what
`kard ask` gives, and an evaluation with as many passages: it is the same code.
"""
