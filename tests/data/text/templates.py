"""Chat templates that follow the rules of released ones. None of them is a released one.

A turn of the model has its thoughts first, then its calls, the results of the calls, and its text.
It ends in <|tool_response> if calls have no results yet, and in <turn|> otherwise. The assistant's
next message goes on with the same turn.
"""

_MACROS = """\
{%- macro value(it) -%}
    {%- if it is none -%} null
    {%- elif it is string -%} <|"|>{{ it }}<|"|>
    {%- elif it is boolean -%} {{ 'true' if it else 'false' }}
    {%- elif it is mapping -%} { {{- fields(it) -}} }
    {%- elif it is sequence -%} [
        {%- for part in it -%} {{ ',' if not loop.first }}{{ value(part) }} {%- endfor -%} ]
    {%- else -%} {{ it }}
    {%- endif -%}
{%- endmacro -%}
{%- macro fields(it) -%}
    {%- for key, part in it | dictsort -%}
        {{ ',' if not loop.first }}{{ key }}:{{ value(part) }}
    {%- endfor -%}
{%- endmacro -%}
"""

_START = """\
{{- bos_token -}}
{%- set first = messages[0] if messages[0].role == 'system' else none -%}
{%- if first or tools or enable_thinking -%}
    {{- '<|turn>system\\n' }}
    {{- '<|think|>\\n' if enable_thinking }}
    {{- first.content | trim if first }}
    {%- for tool in tools or [] -%}
        <|tool>declaration:{{ tool.function.name }}{
        {{- fields({'description': tool.function.description}) }}}<tool|>
    {%- endfor -%}
    {{- '<turn|>\\n' }}
{%- endif -%}
"""

# [[ and ]] stand around what the model writes.
_MESSAGES = """\
{%- set rest = messages[1:] if first else messages -%}
{%- set state = namespace(asked=-1, before=none, kind=none, over=false) -%}
{%- for message in rest -%}
    {%- if message.role == 'user' -%} {%- set state.asked = loop.index0 -%} {%- endif -%}
{%- endfor -%}
{%- for message in rest -%}
    {%- if message.role == 'tool' -%} {%- continue -%} {%- endif -%}
    {%- set model = message.role == 'assistant' -%}
    {%- if not (model and state.before == 'assistant') -%}
        <|turn>{{ 'model' if model else message.role }}{{ '\\n' }}
    {%- endif -%}
    {%- set state.before = message.role -%}
    {%- set thoughts = message.get('reasoning') or message.get('reasoning_content') -%}
    {%- if thoughts and loop.index0 > state.asked -%}
        [[ {{- '<|channel>thought\\n' + thoughts + '\\n<channel|>' -}} ]]
    {%- endif -%}
    {%- set state.kind = 'call' if message.get('tool_calls') else none -%}
    {%- set state.over = false -%}
    {%- if state.kind -%}
        [[
        {%- for call in message.tool_calls -%}
            <|tool_call>call:{{ call.function.name }}{
            {{- fields(call.function.arguments) }}}<tool_call|>
        {%- endfor -%}
        ]]
        {%- for result in rest[loop.index0 + 1:] -%}
            {%- if state.over or result.role != 'tool' -%}
                {%- set state.over = true -%}
            {%- else -%}
                {%- set state.kind = 'result' -%}
                <|tool_response>response:{{ result.name or 'unknown' }}{
                {{- fields({'value': result.content}) }}}<tool_response|>
            {%- endif -%}
        {%- endfor -%}
    {%- endif -%}
    {%- set said = (message.content or '') | trim -%}
    {%- if model -%} [[ {{- said -}} ]] {%- else -%} {{ said }} {%- endif -%}
    {%- set after = rest[loop.index0 + 1:] | rejectattr('role', 'equalto', 'tool') | list -%}
    {%- if state.kind == 'call' -%}
        <|tool_response>
    {%- elif model and after and after[0].role == 'assistant' -%}
    {%- elif state.kind == 'result' and not said and not after -%}
    {%- elif model -%}
        [[ {{- '<turn|>\\n' -}} ]]
    {%- else -%}
        {{- '<turn|>\\n' }}
    {%- endif -%}
{%- endfor -%}
"""

_END = """\
{%- if add_generation_prompt and not state.kind -%}
    {{- '<|turn>model\\n' }}
{%- elif add_generation_prompt and state.kind == 'result' and enable_thinking -%}
    {{- '<|channel>thought\\n' }}
{%- endif -%}
"""

_WHOLE = _MACROS + _START + _MESSAGES + _END
TEMPLATE = _WHOLE.replace("[[", "").replace("]]", "")

# trl's templates for training have such blocks around what the model writes.
TRAINING = _WHOLE.replace("[[", "{%- generation -%}").replace("]]", "{%- endgeneration -%}")

# In templates of the larger models, the model's turn begins with an empty thought if no thoughts
# are asked for.
RELEASE = TEMPLATE.replace(
    """    {{- '<|turn>model\\n' }}
{%- elif""",
    """    {{- '<|turn>model\\n' }}
    {{- '<|channel>thought\\n<channel|>' if not enable_thinking }}
{%- elif""",
)

# The template of DiffusionGemma begins the model's turn again after the results of its calls, but
# not at the end of a prompt.
_AGAIN = ("{%- continue -%}", "{%- set state.before = 'tool' -%} {%- continue -%}")
DIFFUSION, DIFFUSION_TRAINING = TEMPLATE.replace(*_AGAIN), TRAINING.replace(*_AGAIN)
