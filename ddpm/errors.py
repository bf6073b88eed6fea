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
