"""The commands, one per file. They may import anything, and nothing imports them. None loads torch
before it needs it.

    main        the group of all commands; shows mistakes as messages
    hints       what is meant by unknown options, arguments and commands
    options     options of several commands, and the types of their values
    phases      the table of phases and its plot
    train       progan train
    dry_run     progan train --dry-run
    sample      progan sample
    config      progan config
    schedule    progan schedule
    data        progan data: prepare, list, info
    bench       progan bench
    checkpoint  progan checkpoint verify
    evaluate    progan evaluate
    compare     progan compare
    neighbours  progan neighbours
    balance     progan balance
    doctor      progan doctor
"""
