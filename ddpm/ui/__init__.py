"""The page of the Space. Whatever has a closed form is computed in the browser, the rest in `server.service`."""
