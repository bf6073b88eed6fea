"""`python -m ddpm.evaluate MODEL`. It parses the options before it loads torch, so that `--help` and wrong usage are
answered at once."""

import sys

from ddpm.output import keep_going, nothing_begun

if __name__ == "__main__":
    keep_going()  # also if nobody reads what is printed
    with nothing_begun():
        from ddpm.evaluate.options import parse

        config = parse(sys.argv[1:])

        from ddpm.evaluate.measure import main

    sys.exit(main(config))
