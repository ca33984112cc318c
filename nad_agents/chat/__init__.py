"""What every chat front end shares: prompts from messages, tools and schemas, and answers taken apart."""
