"""Messages of other libraries' exceptions, in one line and without secrets. This module loads nothing heavy."""

import os
import re
import sys


def first_line(error: BaseException) -> str:
    """The first line of an exception's message, without the token; the name of its class if there is no message."""
    return masked((str(error).strip() or type(error).__name__).splitlines()[0])


def masked(text: str) -> str:
    """The text with the Hub's token replaced, in every form in which Python or an HTTP header may quote it."""
    hub = sys.modules.get("huggingface_hub")  # if it is not loaded, the message is not its own
    tokens = {os.environ.get("HF_TOKEN"), os.environ.get("HUGGING_FACE_HUB_TOKEN"), hub and hub.get_token()}
    for token in filter(None, ((token or "").strip() for token in tokens)):
        for form in (token, repr(token)[1:-1], ascii(token)[1:-1], repr(token.encode())[2:-1]):
            text = text.replace(form, "<token>")
    return re.sub(r"(?i)(bearer )[^'\"]+", r"\1<token>", text)


def about_compile(error: BaseException) -> str | None:
    """What to say about an exception of torch.compile, in one line; None if it is another exception.

    The commonest is that torch.compile finds no compiler for C++, or on a GPU for C.
    """
    if not any(kind.__module__.startswith(("torch._dynamo", "torch._inductor")) for kind in type(error).__mro__):
        return None
    return (
        f"--compile: torch.compile cannot compile the network here ({first_line(error)[:300]}); "
        "it needs a C++ compiler such as g++. Without --compile, PyTorch computes the same, slower"
    )
