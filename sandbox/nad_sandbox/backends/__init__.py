"""The sandboxes that can be used: Docker, bubblewrap, and an unsafe one without isolation."""
