"""The marks around the {% generation %} blocks of a template, and the variables that hold them."""

# Written where a {% generation %} block begins and ends. No text contains them.
BLOCK, BLOCK_END = "\ud803", "\ud804"
# A template's variables. Their texts are these marks, or nothing if no marks are asked for.
START_NAME, END_NAME = "__generation_begins", "__generation_ends"
