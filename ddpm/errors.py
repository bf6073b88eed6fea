"""Messages of other people's exceptions, for people."""

import os
import re
import sys


def first_line(error: BaseException) -> str:
    """What an exception says, in one line, without the token; its class where it says nothing."""
    return masked((str(error).strip() or type(error).__name__).splitlines()[0])


def masked(text: str) -> str:
    """Without the Hub's token, should a message quote it, be it as Python or an HTTP header writes it."""
    hub = sys.modules.get("huggingface_hub")  # what has not been loaded has not complained
    tokens = {os.environ.get("HF_TOKEN"), os.environ.get("HUGGING_FACE_HUB_TOKEN"), hub and hub.get_token()}
    for token in filter(None, ((token or "").strip() for token in tokens)):
        for form in (token, repr(token)[1:-1], ascii(token)[1:-1], repr(token.encode())[2:-1]):
            text = text.replace(form, "<token>")
    return re.sub(r"(?i)(bearer )[^'\"]+", r"\1<token>", text)
