"""Gemma-2's special tokens and turns, for a tokenizer.json that has nothing beside it."""

PAD, EOS, BOS, START, END = "<pad>", "<eos>", "<bos>", "<start_of_turn>", "<end_of_turn>"
NAMES = {"pad_token": PAD, "eos_token": EOS, "bos_token": BOS}

# Equals the published Gemma-2 template in what it renders; written with our own variable names.
CHAT_TEMPLATE = """\
{{ bos_token }}\
{% if messages[0]['role'] == 'system' %}\
{{ raise_exception('Gemma-2 has no system role: put it into the first user turn') }}\
{% endif %}\
{% for turn in messages %}\
{% if (turn['role'] == 'user') != (loop.index0 is even) %}\
{{ raise_exception('The turns must alternate, and the user begins') }}\
{% endif %}\
{{ '<start_of_turn>' + ('model' if turn['role'] == 'assistant' else turn['role']) + '\\n' }}\
{{ turn['content'] | trim }}{{ '<end_of_turn>\\n' }}\
{% endfor %}\
{% if add_generation_prompt %}{{ '<start_of_turn>model\\n' }}{% endif %}"""
