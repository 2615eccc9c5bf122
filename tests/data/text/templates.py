"""Chat templates. Neither is the released one; they use what such templates use."""

TEMPLATE = """\
{%- macro role(message) -%}
    {{ 'model' if message['role'] == 'assistant' else message.role }}
{%- endmacro -%}
{{ bos_token }}
{%- if enable_thinking or tools %}
    {{- '<|turn>system\\n' }}
    {%- if enable_thinking %}{{ '<|think|>' }}{% endif %}
    {%- for tool in tools or [] %}
        {{- 'tool:' + tool | tojson + ';' }}
    {%- endfor %}
    {{- '<turn|>\\n' }}
{%- endif %}
{%- set seen = namespace(count=0) %}
{%- for message in messages %}
    {%- if message.role == 'system' %}{% continue %}{% endif %}
    {%- if seen.count == 5 %}{{ raise_exception('at most five\\nmessages') }}{% endif %}
    {%- set seen.count = seen.count + 1 %}
    {{- '<|turn>' + role(message) + '\\n' }}
    {%- for call in message.get('tool_calls') or [] %}
        {{- 'call:' + call.function.name + call.function.arguments | tojson }}
    {%- endfor %}
    {{- (message.content or '') | trim + '<turn|>\\n' }}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|turn>model\\n' }}
{%- endif %}
"""

# As the release's larger models have it: the start of the model's turn holds an empty thought if
# none is asked for, and one that is begun after a tool's result if it is; earlier turns have none.
RELEASE = TEMPLATE.replace(
    """    {{- '<|turn>model\\n' }}
""",
    """    {{- '<|turn>model\\n' }}
    {%- if not enable_thinking %}
        {{- '<|channel>thought\\n<channel|>' }}
    {%- elif messages[-1].role == 'tool' %}
        {{- '<|channel>thought\\n' }}
    {%- endif %}
""",
)
