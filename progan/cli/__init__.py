"""The commands, one per file. They may import anything, and nothing imports them. None loads torch
before it needs it.

    main        the group of all commands; shows mistakes as messages
    hints       what is meant by unknown options, arguments and commands
    options     options of several commands, and the types of their values
    phases      the table of phases and its plot
    train       progan train
    dry_run     progan train --dry-run
    sample      progan sample
    runs        progan runs
    show        progan show
    report      progan report
    push        progan push
    import_     progan import
    clean       progan clean
    config      progan config
    schedule    progan schedule
    data        progan data: prepare, list, info
    bench       progan bench
    find_rate   progan find-rate
    checkpoint  progan checkpoint verify
    evaluate    progan evaluate
    explore     progan explore
    compare     progan compare
    neighbours  progan neighbours
    video       progan video
    timelapse   progan timelapse
    average     progan average
    export      progan export
    project     progan project
    balance     progan balance
    doctor      progan doctor
    reference   explains all commands, in docs/commands.md
"""
