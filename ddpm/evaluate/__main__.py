"""`python -m ddpm.evaluate MODEL`. It parses the options before it loads torch, so that `--help` and wrong usage are
answered at once."""

import sys

from ddpm.evaluate.options import parse
from ddpm.output import keep_going

if __name__ == "__main__":
    keep_going()  # also if nobody reads what is printed
    config = parse(sys.argv[1:])

    from ddpm.evaluate.measure import main

    sys.exit(main(config))
