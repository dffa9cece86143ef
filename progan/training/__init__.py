"""From batches and losses to a trained run.

The step: `feed`, `losses`, `augment`, `adaptive`, `updates`, `optimizers`, `ema`, `compile`,
`step`.
The start: `request`, `transfer`, `forecast`, `start`.
The loop: `trainer`, `build`, `outputs`, `statistics`, `console`, `health`.
What it takes: `work`, `trials`, `costs`, `memory_fit`, `find_rate`, `bench`.

    feed        what each update consumes: reals, labels, latents
    losses      adversarial losses and gradient penalties, pure functions
    augment     random changes of reals and fakes alike, differentiable
    adaptive    how many images are augmented, steered by the critic
    updates     one critic update, one generator update: gradients as values
    optimizers  what moves the weights: by name, with the options of each phase
    ema         the moving average of the generator
    compile     each update's gradients compiled to one graph
    step        one training step: both updates and the average
    request     the run that is asked for: its settings and its folder, checked
    transfer    starting from another run's networks
    forecast    what a run will take, and what will not go well, in words
    start       training a run, from the command line and from Python
    trainer     when things happen: phases, updates, ticks, checkpoints
    build       from a config to the feed, the loss, the networks and their costs
    outputs     what a run shows of itself: statistics, grids, snapshots
    statistics  what a tick reports: means, skipped updates, where in the schedule it is
    console     progress on the console
    health      signs that training goes wrong
    work        FLOPs and values written, counted
    trials      what parts of an update take, measured at the start
    costs       the time of phases, pauses and runs, predicted
    memory_fit  as many images in a forward pass as memory has room for
    find_rate   losses while the learning rate rises
    bench       how fast a config trains here, and what the time goes into
"""
