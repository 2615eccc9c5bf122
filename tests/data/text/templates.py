"""Chat templates with the features of released ones. Neither of them is a released one."""

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

# This one follows the templates of the larger released models. If no thoughts are asked for, the
# model's turn begins with an empty thought. If they are, the turn after a tool's result begins with
# the start of a thought. Earlier turns have no thoughts.
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
