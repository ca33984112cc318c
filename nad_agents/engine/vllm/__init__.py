"""The backend over vLLM: `engine` drives it in the caller's process, `plugin` records inside its workers."""
