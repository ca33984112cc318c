"""What every chat front end shares: typed parameters, prompts from messages and tools, grammars, parsed answers.

`prepare` turns a conversation into a frozen `PreparedChat` for the decoder; its parser takes the answers apart again.
Nothing here knows LangChain, LlamaIndex or the server: a front end converts its framework's types to OpenAI's form on
the way in, and `ParsedAnswer` to its framework's types on the way out.
"""
