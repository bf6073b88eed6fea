"""Push models to the Hugging Face Hub, and pull them from there.

    python -m ddpm.hub push DIR --repo_id ID [--private]

The token is that of HF_TOKEN or of the stored login; no flag takes it and no file gets it. Importing this package does
not load torch.
"""

from ddpm.hub.pull import pull
from ddpm.hub.push import Pushed, check_access, push
from ddpm.hub.transport import HubError

__all__ = ["HubError", "Pushed", "check_access", "pull", "push"]
