"""From batches and losses to a trained run.

The step: `feed`, `losses`, `augment`, `updates`, `ema`, `compile`, `step`.
The start: `request`, `forecast`, `start`.
The loop: `trainer`, `build`, `outputs`, `statistics`, `console`, `health`.
What it takes: `work`, `trials`, `costs`, `memory_fit`, `bench`.

    feed        what each update consumes: reals, labels, latents
    losses      adversarial losses and gradient penalties, pure functions
    augment     random changes of reals and fakes alike, differentiable
    updates     one critic update, one generator update: gradients as values
    ema         the moving average of the generator
    compile     each update's gradients compiled to one graph
    step        one training step: both updates and the average
    request     the run that is asked for: its settings and its folder, checked
    forecast    what a run will take, and what will not go well, in words
    start       training a run, from the command line and from Python
    trainer     when things happen: phases, updates, ticks, checkpoints
    build       from a config to the feed, the loss, the networks and their costs
    outputs     what a run shows of itself: statistics, grids, snapshots
    statistics  means and skipped updates since the last tick, kept on the device
    console     progress on the console
    health      signs that training goes wrong
    work        FLOPs and values written, counted
    trials      what parts of an update take, measured at the start
    costs       the time of phases, pauses and runs, predicted
    memory_fit  as many images in a forward pass as memory has room for
    bench       how fast a config trains here, and what the time goes into
"""
