"""`python killed.py SIGNAL MOMENT PROGRAM ...`: a program, such as train.py, that sends itself a signal, such as SIGKILL,
at one moment.

MOMENT is "module:function:number:events": the number-th call of that function has begun, and so many calls of whatever
function have followed. So a moment does not depend on the speed of the machine.
"""

import os
import runpy
import signal
import sys


class Hook:
    """For sys.setprofile: it sees every call, of functions in Python and in C."""

    def __init__(self, name, moment):
        self.signal = getattr(signal, name)
        self.module, self.function, number, events = moment.split(":")
        self.calls, self.events, self.begun = int(number), int(events), False

    def __call__(self, frame, event, arg):
        if self.begun:
            self.events -= 1
            if self.events <= 0:
                sys.setprofile(None)
                os.kill(os.getpid(), self.signal)
        elif event == "call":
            code = frame.f_code
            if code.co_qualname == self.function and frame.f_globals.get("__name__") == self.module:
                self.calls -= 1
                self.begun = self.calls == 0


if __name__ == "__main__":
    name, moment, *sys.argv = sys.argv[1:]
    sys.setprofile(Hook(name, moment))
    runpy.run_path(sys.argv[0], run_name="__main__")
