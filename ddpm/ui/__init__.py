"""The page of the Space. What has a closed form is computed in the browser (static/), the rest in `service`."""
