"""The backend over Hugging Face transformers."""
