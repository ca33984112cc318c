"""The backend over any server with OpenAI's protocol: candidates and their log-probabilities, without neurons."""
