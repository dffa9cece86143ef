"""The commands, a file each. They may import anything, nothing imports them, and none loads torch
before it needs it.

    main        the group of all commands, and how mistakes are shown
    options     options of several commands, and the types of their values
    phases      the table of phases and its plot
    train       progan train
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
