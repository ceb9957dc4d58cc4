"""Text to token ids and back, such that text alone can never become a control token."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import tokenizers

from grm_jax.text.chat import ChatTemplate, Parts, Refused
from grm_jax.text.control_tokens import Names, control_tokens
from grm_jax.text.files import refuse_pointer
from grm_jax.text.gemma import BOS, CHAT_TEMPLATE, END, EOS, NAMES, PAD, START
from grm_jax.text.gguf_file import find_gguf
from grm_jax.text.gguf_tokenizer import read_gguf_tokenizer
from grm_jax.text.messages import Message, fold_system, repair_surrogates
from grm_jax.text.reasoning import CLOSE, OPEN, SKIPPED, answer_start
from grm_jax.text.tokenizer_files import (
    SETTINGS,
    Words,
    convert,
    find,
    read_words,
    words_in,
    words_of,
)

# What pads where nothing says it: scalar heads of transformers look for it.
PADS = (PAD, "<|finetune_right_pad_id|>", "<|pad|>", "[PAD]")
UNKNOWN = "<unk>"
BYTES = tuple(f"<0x{byte:02X}>" for byte in range(256))


class Tokenizer:
    """A fast tokenizer and its chat template, made from the text of a tokenizer.json.

    Ids equal those of transformers for text without control tokens.

    Args:
        tokenizer_json: the file's content.
        source: where it is from, for errors.
        words: what stands beside it; by default Gemma's turns and special tokens.
        arguments: what the chat template is given, such as {"enable_thinking": False}.

    Attributes:
        bos_id, pad_id: ids, or None where the family has none.
        eos_id, end_of_turn_id: what ends a text, and what ends the assistant's turn.
        start_of_turn_id: the last control token before a user's text; None where there is none.
        stop_ids: where generation ends: at both ends, and where generation_config.json says.
        control_ids: the ids that steer the model, which no text becomes.
        opened: how the template itself begins the assistant's reasoning, `<think>` and a newline;
            nothing in most families.
        vocab_size: the number of entries.
        sha256: of tokenizer.json, which ties weights to their tokenizer.

    Raises:
        ValueError: it cannot be read, or does not say how a chat is written.
    """

    def __init__(
        self,
        tokenizer_json: bytes,
        *,
        source: str = "tokenizer.json",
        words: Words | None = None,
        arguments: Mapping[str, Any] | None = None,
    ):
        try:
            self._tokenizer = tokenizers.Tokenizer.from_buffer(tokenizer_json)
        except Exception as error:  # tokenizers raises bare Exception
            raise ValueError(
                f"{source} is not a tokenizer.json that can be read: {error}"
            ) from None
        self._tokenizer.no_truncation()
        self._tokenizer.no_padding()
        self._json, self._source, self._words = tokenizer_json, source, words or Words()
        self.sha256 = hashlib.sha256(tokenizer_json).hexdigest()
        self.vocab_size = self._tokenizer.get_vocab_size()
        own = [name for name in (PAD, EOS, BOS, START, END) if self._known(name)]
        gemma = START in own and END in own
        self.names = {k: v for k, v in NAMES.items() if gemma and v in own}
        self.names |= {k: v for k, v in self._words.names.items() if self._known(v)}
        special = [text for name, text in self.names.items() if name != "unk_token"]
        controls = control_tokens(self._tokenizer, [*special, *own * gemma])
        # <unk> steers nothing, and some tokenizers have it for characters that they do not know.
        unknown = {self.names.get("unk_token", UNKNOWN), UNKNOWN}
        self.control_ids = frozenset(i for name, i in controls.items() if name not in unknown)
        self._controls, self._control_names = controls, Names(controls)
        self._cut = Names((*controls, *BYTES))
        self._anchor = self._prefixed()
        added = self._tokenizer.get_added_tokens_decoder().items()
        self._strips = {i: (t.lstrip, t.rstrip) for i, t in added if t.lstrip or t.rstrip}
        for name, i in controls.items():
            if len(name) == 1 and i in self.control_ids:
                raise ValueError(f"{source} turns the plain text {name!r} into a control token")
        self.arguments = dict(arguments or {})
        template = self._words.chat_template or self._gemmas()
        self.chat = ChatTemplate(template, source, self.names, self.arguments)
        self._set_ends()
        self._set_reasoning()

    @classmethod
    def load(
        cls, path_or_hub_id: str | Path, arguments: Mapping[str, Any] | None = None
    ) -> Tokenizer:
        """The tokenizer of a model folder, bundled or not, of a tokenizer.json, of a GGUF file, or
        of a hub id.

        arguments: of the chat template.

        Raises FileNotFoundError or ValueError with a sentence that says what to do.
        """
        path = find(path_or_hub_id)
        if not (path / "tokenizer.json").is_file() and (gguf := find_gguf(path)):
            read = read_gguf_tokenizer(gguf)
            words = words_in(read.config, read.stop_ids)
            return cls(read.json, source=str(gguf), words=words, arguments=arguments)
        file = path / "tokenizer.json" if path.is_dir() else path
        words = read_words(file.parent)
        if not file.exists():
            theirs = convert(path)
            words = replace(words, names={**words_of(theirs).names, **words.names})
            return cls.of(theirs, words, source=str(path), arguments=arguments)
        refuse_pointer(file)
        return cls(file.read_bytes(), source=str(file), words=words, arguments=arguments)

    @classmethod
    def of(
        cls,
        theirs: Any,
        words: Words | None = None,
        *,
        source: str,
        arguments: Mapping[str, Any] | None = None,
    ) -> Tokenizer:
        """Of a fast tokenizer of transformers, or one of tokenizers.

        words: by default what it says of itself. source, arguments: as for `Tokenizer`.
        """
        backend: tokenizers.Tokenizer = getattr(theirs, "backend_tokenizer", theirs)
        content = backend.to_str().encode()
        return cls(content, source=source, words=words or words_of(theirs), arguments=arguments)

    def save(self, folder: str | Path) -> None:
        """Writes tokenizer.json, and what was read beside it: settings, chat template.

        All are the same bytes; where there were no settings, they are ours. transformers and vLLM
        load the folder.
        """
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "tokenizer.json").write_bytes(self._json)
        for name, content in self._words.files.items():
            (folder / name).write_bytes(content)
        if SETTINGS not in self._words.files:
            settings = {
                "tokenizer_class": "PreTrainedTokenizerFast",
                "clean_up_tokenization_spaces": False,
                "chat_template": self.chat.text,
            }
            content = json.dumps(settings | self.names, indent=2) + "\n"
            (folder / SETTINGS).write_text(content, encoding="utf-8")

    def encode(self, text: str) -> list[int]:
        """Ids of plain text: nothing is added, and no control token arises, whatever the text.

        The text is cut inside every occurrence of a control token's name, and the pieces are
        encoded apart. A token's name is a part of the text it came from, so that no piece can
        yield a control token, whatever the tokenizer's flags and merges are.
        `split_special_tokens=True` of transformers spares <unused0> and its like.
        """
        text = repair_surrogates(text)
        cuts = [start + 1 for start, _ in self._cut.found(text)]
        ids: list[int] = []
        for start, end in zip([0, *cuts], [*cuts, len(text)], strict=True):
            ids += self._encode_piece(text[start:end])
        return ids

    def decode(self, ids: Sequence[int]) -> str:
        """The text of ids; control tokens show as their names, broken bytes as U+FFFD."""
        return self._tokenizer.decode([int(i) for i in ids], skip_special_tokens=False)

    def decode_completion(self, ids: Iterable[int]) -> str:
        """The text that a model wrote, without the tokens that end it."""
        return self.decode([i for i in ids if i not in self.stop_ids])

    def encode_chat(
        self, messages: Sequence[Message], *, generation_prompt: bool = True
    ) -> list[int]:
        """The chat as the model's template writes it, with every text as plain text.

        Equals apply_chat_template of transformers for texts without control tokens. A system turn
        is folded into the first user turn where the template has no place for it.
        generation_prompt: end with the opening of the model's turn.

        Raises:
            ValueError: the template takes no such turns, as Gemma's none that do not alternate.
        """
        if not messages:  # which few templates can be rendered with: what is around the turns
            one = [Message("user", "")]
            opened = self.encode_chat(one)[len(self.encode_chat(one, generation_prompt=False)) :]
            return [i for i in (self.bos_id,) if i is not None] + opened * generation_prompt
        turns = fold_system(messages)
        if self.chat.takes_system:
            turns = tuple(messages)
        roles = [turn.role for turn in turns]
        try:
            parts = self.chat.parts(roles, generation_prompt)
        except Refused as error:
            raise _out_of_turn(roles) or error from None
        return self._encode_parts(parts, [turn.content for turn in turns])

    def encode_completion(self, text: str) -> list[int]:
        """Ids of what the model is to say after `encode_chat`: the text, and the turn's end.

        Reasoning at its beginning stands between the tokens `<think>` and `</think>`, where the
        tokenizer has them. Where the template has begun some, it ends before a text without any.
        """
        if not self.opened:
            before, opening, rest = text.partition(OPEN)
            if before.strip() or not opening:
                return self.encode_judged(text)
        else:
            before, opening, rest = "", "", SKIPPED + text
            if answer_start(text) != 0:
                begun = self.opened if text.startswith(self.opened) else OPEN
                rest = text.partition(begun)[2]
        if self.reasoning is None:
            return self.encode_judged(before + opening + rest)
        inside, closing, answer = rest.partition(CLOSE)
        ids = [*self.encode(before), *self.reasoning[:1] * bool(opening), *self.encode(inside)]
        return [*ids, *self.reasoning[1:] * bool(closing), *self.encode_judged(answer)]

    def encode_judged(self, text: str) -> list[int]:
        """Ids of an assistant's turn that is judged, after `encode_chat`: all of it plain text."""
        return [*self.encode(text), *self._turn_end]

    def _encode_piece(self, text: str) -> list[int]:
        """Ids of a text in which no control token has its name."""
        ids = self._tokenizer.encode(self._anchor + text, add_special_tokens=False).ids
        ids = ids[bool(self._anchor) :]
        if self.control_ids.isdisjoint(ids):
            return ids
        # The tokenizer reads other characters as those of a name.
        if len(text) > 1:
            return [i for char in text for i in self._encode_piece(char)]
        return [i for i in ids if i not in self.control_ids]

    def _encode_parts(self, parts: Parts, texts: Sequence[str]) -> list[int]:
        """Ids of a filled template: names of control tokens count in its own words alone."""
        ids: list[int] = []
        text, strips = "", False
        for part in parts:
            if not isinstance(part, str):
                text += part.fill(texts[part.turn])
                continue
            for before, name in self._control_names.split(part):
                text += before
                if name:
                    text = text.lstrip() if strips else text
                    left, right = self._strips.get(self._controls[name], (False, False))
                    ids += [*self.encode(text.rstrip() if left else text), self._controls[name]]
                    text, strips = "", right
        return ids + self.encode(text.lstrip() if strips else text)

    def _known(self, name: str) -> bool:
        return self._tokenizer.token_to_id(name) is not None

    def _prefixed(self) -> str:
        """A control token to encode texts after, where the tokenizer puts a space before a text
        that stands alone."""
        alone = self._tokenizer.encode("a", add_special_tokens=False).ids
        for name in self.names.values():
            after = self._tokenizer.encode(f"{name}a", add_special_tokens=False).ids
            if after[:1] == [self._controls.get(name)] and after[1:] != alone:
                return name
        return ""

    def _gemmas(self) -> str:
        missing = [name for name in (START, END, BOS, EOS, PAD) if not self._known(name)]
        if missing:
            raise ValueError(
                f"{self._source} has no token {', '.join(missing)}, and no chat template is beside "
                "it: a base model has none; put the template of its chats into chat_template.jinja"
            )
        return CHAT_TEMPLATE

    def _set_ends(self) -> None:
        ids = {name: self._controls.get(text) for name, text in self.names.items()}
        self.bos_id, eos = ids.get("bos_token"), ids.get("eos_token")
        pads = (self._controls.get(name) for name in PADS)
        self.pad_id = next((i for i in (ids.get("pad_token"), *pads) if i is not None), None)
        parts = self.chat.parts(("user", "assistant"), False)
        before = parts[0] if isinstance(parts[0], str) else ""
        opening = [self._controls[name] for _, name in self._control_names.split(before) if name]
        self.start_of_turn_id = opening[-1] if opening else None
        after = parts[-1] if isinstance(parts[-1], str) else ""
        said, name = next(self._control_names.split(after))
        stops = self._words.stops
        for stop in stops:
            if self._tokenizer.id_to_token(stop) is None:
                raise ValueError(
                    f"{self._source} has no token {stop}, where generation ends according to "
                    "generation_config.json: the two do not belong together"
                )
        ends = [self._controls[name]] if name else [i for i in (eos, *stops) if i is not None][:1]
        if not ends:
            raise ValueError(
                f"{self._source} has no token that ends a turn: name one as eos_token in {SETTINGS}"
            )
        self._turn_end = (*(self.encode(said) if name else ()), *ends)
        self.end_of_turn_id = ends[0]
        self.eos_id = self.end_of_turn_id if eos is None else eos
        self.stop_ids = tuple(dict.fromkeys((self.eos_id, self.end_of_turn_id, *stops)))

    def _set_reasoning(self) -> None:
        opening, closing = self._controls.get(OPEN), self._controls.get(CLOSE)
        self.reasoning = None if opening is None or closing is None else (opening, closing)
        last = self.chat.parts(("user",), True)[-1]
        _, begun, rest = last.rpartition(OPEN) if isinstance(last, str) else ("", "", "")
        self.opened = begun + rest if begun and CLOSE not in rest else ""


def _out_of_turn(roles: Sequence[str]) -> ValueError | None:
    """What is wrong with turns that do not alternate."""
    first = int(roles[:1] == ["system"])
    for number, role in enumerate(roles[first:]):
        if role != ("user", "assistant")[number % 2]:
            return ValueError(
                f"turn {number + first + 1} is the {role}'s: a chat begins with the user, "
                "and user and assistant take turns"
            )
    return None
