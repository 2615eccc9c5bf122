"""Messages for the tests of chats, with and without a template."""

SYSTEM = {"role": "system", "content": "Be brief."}
USER = {"role": "user", "content": "2 + 2?"}
MODEL = {"role": "assistant", "content": "4"}
AGAIN = {"role": "user", "content": "Sure?"}
TOOLS = [{"name": "clock", "description": "Zeit für <b>"}]
CALL = {"role": "assistant", "tool_calls": [{"function": {"name": "clock", "arguments": {"n": 1}}}]}
RESULT = {"role": "tool", "name": "clock", "content": "noon"}
