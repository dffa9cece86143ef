"""`python -m progan`, so that `torchrun -m progan …` and `accelerate launch -m progan …` work."""

from progan.cli.main import main

if __name__ == "__main__":
    main(prog_name="progan")
