"""Training: from rendered examples to an adapter, or to weights of the base itself.

    loss          the summed cross-entropy of target tokens: `LayerwiseLoss` where the layers can be run one by
                  one (the frozen lower half then runs once an example), `ModelLoss` for every other base
    checkpoint    one file of weights, optimizer state and position, from which a killed training continues
    train         `train_student` for the store, `prepare_model` and `fit` for every caller, `Stepper` for a step

An example goes through it as follows. `tokenize_example` makes its ids, cut to the maximum length. `hold_out` sets
apart the questions that only measure. Each epoch takes the next rationale of every question. `shuffled_batches`
puts examples of like length together. A `Stepper` splits a batch over devices and passes, sums the gradients, and
steps at the rate of `learning_rate`. With held-out questions, the weights of the best epoch stay.

The order of batches and the random numbers of a step depend on the seed alone. So a training that was killed five
times ends with the weights of one that was not.
"""
