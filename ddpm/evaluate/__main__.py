"""`python -m ddpm.evaluate MODEL`: options are parsed before torch is loaded, so that --help and wrong usage answer at
once."""

import sys

from ddpm.config import parse_flags, usage_errors
from ddpm.evaluate.options import PROG, EvaluateConfig

if __name__ == "__main__":
    with usage_errors(PROG):
        config = parse_flags(sys.argv[1:], EvaluateConfig(), PROG)
        config.validate()

    from ddpm.evaluate.measure import main

    sys.exit(main(config))
