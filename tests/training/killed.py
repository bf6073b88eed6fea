"""`python killed.py MOMENTS train.py ...`: train.py, which ends itself by SIGKILL at one moment.

MOMENTS is "module:function:number:events": the number-th call of that function has begun, and so many calls of whatever
function have followed. So a moment does not depend on the speed of the machine.
"""

import os
import runpy
import signal
import sys


class Hook:
    """For sys.setprofile: it sees every call, of functions in Python and in C."""

    def __init__(self, moment):
        self.module, self.function, number, events = moment.split(":")
        self.calls, self.events, self.begun = int(number), int(events), False

    def __call__(self, frame, event, arg):
        if self.begun:
            self.events -= 1
            if self.events <= 0:
                os.kill(os.getpid(), signal.SIGKILL)
        elif event == "call":
            code = frame.f_code
            if code.co_qualname == self.function and frame.f_globals.get("__name__") == self.module:
                self.calls -= 1
                self.begun = self.calls == 0


if __name__ == "__main__":
    hook = Hook(sys.argv[1])
    sys.argv = sys.argv[2:]
    sys.setprofile(hook)
    runpy.run_path(sys.argv[0], run_name="__main__")
