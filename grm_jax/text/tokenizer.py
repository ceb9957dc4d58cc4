"""Text to Gemma-2 token ids and back, such that text alone can never become a control token."""

import hashlib
import json
import re
from collections.abc import Iterable, Sequence
from pathlib import Path

import tokenizers

from grm_jax import presets
from grm_jax.text.files import is_hub_id, refuse_pointer
from grm_jax.text.gguf_file import find_gguf
from grm_jax.text.gguf_tokenizer import read_gguf_tokenizer
from grm_jax.text.messages import Message, fold_system, repair_surrogates

PAD, EOS, BOS, START, END = "<pad>", "<eos>", "<bos>", "<start_of_turn>", "<end_of_turn>"
UNKNOWN = "<unk>"

# Gemma's added tokens that are ordinary text: they carry layout, not control.
HTML = re.compile(
    r"</?(table|caption|thead|tbody|tfoot|tr|th|td|h[1-6]|blockquote"
    r"|strong|em|b|i|u|s|sub|sup|code)>"
)
BRACKETED = re.compile(r"<[^<>\s]+>|\[[^\[\]\s]+\]")

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


class Tokenizer:
    """A Gemma-layout fast tokenizer, made from the text of a tokenizer.json.

    Ids equal those of transformers for text without control tokens. pad_id, bos_id, eos_id,
    end_of_turn_id and start_of_turn_id: int; stop_ids: where generation ends; vocab_size;
    sha256 of tokenizer.json, which ties weights to their tokenizer.
    """

    def __init__(self, tokenizer_json: bytes, *, source: str = "tokenizer.json"):
        try:
            self._tokenizer = tokenizers.Tokenizer.from_buffer(tokenizer_json)
        except Exception as error:  # tokenizers raises bare Exception
            raise ValueError(
                f"{source} is not a tokenizer.json that can be read: {error}"
            ) from None
        self._tokenizer.no_truncation()
        self._tokenizer.no_padding()
        self._json = tokenizer_json
        self.sha256 = hashlib.sha256(tokenizer_json).hexdigest()
        self.vocab_size = self._tokenizer.get_vocab_size()
        ids = {name: self._tokenizer.token_to_id(name) for name in (PAD, EOS, BOS, START, END)}
        missing = [name for name, i in ids.items() if i is None]
        if missing:
            raise ValueError(
                f"{source} has no token {', '.join(missing)}: a tokenizer of the Gemma layout is "
                f"needed, with {', '.join(ids)}"
            )
        known = [i for i in ids.values() if i is not None]
        self.pad_id, self.eos_id, self.bos_id, self.start_of_turn_id, self.end_of_turn_id = known
        self.stop_ids: tuple[int, ...] = (self.eos_id, self.end_of_turn_id)
        controls = self._control_tokens()
        # <unk> steers nothing, and some tokenizers have it for characters that they do not know.
        self.control_ids: frozenset[int] = frozenset(controls.values()) - {
            self._tokenizer.token_to_id(UNKNOWN)
        }
        self._cut = _cut_pattern([*controls, *(f"<0x{byte:02X}>" for byte in range(256))])
        for name in controls:
            if self.control_ids.intersection(self.encode(name)):
                raise ValueError(f"{source} turns the plain text {name!r} into a control token")

    @classmethod
    def load(cls, path_or_hub_id: str | Path) -> "Tokenizer":
        """The tokenizer of a model folder, bundled or not, of a tokenizer.json, of a GGUF file, or
        of a hub id.

        Raises FileNotFoundError or ValueError with a sentence that says what to do.
        """
        name = str(path_or_hub_id)
        own = presets.bundled(name) if name in presets.BUNDLED else Path(path_or_hub_id)
        path = own.expanduser()
        if not (path / "tokenizer.json").is_file() and (file := find_gguf(path)):
            return cls(read_gguf_tokenizer(file).json, source=str(file))
        if path.is_dir():
            path = path / "tokenizer.json"
            if not path.is_file():
                raise FileNotFoundError(_no_tokenizer_json(path.parent))
        if not path.is_file():
            path = _fetch(str(path_or_hub_id))
        refuse_pointer(path)
        return cls(path.read_bytes(), source=str(path))

    def save(self, folder: str | Path) -> None:
        """Writes tokenizer.json (the same bytes) and a tokenizer_config.json with a chat template.

        transformers and vLLM load the folder.
        """
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "tokenizer.json").write_bytes(self._json)
        names = {"pad_token": PAD, "eos_token": EOS, "bos_token": BOS}
        settings = {
            "tokenizer_class": "PreTrainedTokenizerFast",
            "clean_up_tokenization_spaces": False,
            "chat_template": CHAT_TEMPLATE,
        }
        (folder / "tokenizer_config.json").write_text(json.dumps(settings | names, indent=2) + "\n")

    def encode(self, text: str) -> list[int]:
        """Ids of plain text: nothing is added, and no control token arises, whatever the text.

        The text is cut inside every occurrence of a control token's name, and the pieces are
        encoded apart. A token's name is a part of the text it came from, so that no piece can
        yield a control token, whatever the tokenizer's flags and merges are.
        `split_special_tokens=True` of transformers spares <unused0> and its like.
        """
        text = repair_surrogates(text)
        cuts = [match.end() for match in self._cut.finditer(text)]
        ids: list[int] = []
        for start, end in zip([0, *cuts], [*cuts, len(text)], strict=True):
            ids += self._tokenizer.encode(text[start:end], add_special_tokens=False).ids
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
        """<bos>, then <start_of_turn>role NEWLINE text <end_of_turn> NEWLINE for each turn.

        Equals apply_chat_template of transformers for text without control tokens; a system turn
        is folded into the first user turn. generation_prompt: end with the opening of the model's
        turn. Raises ValueError if the turns do not alternate, user first.
        """
        newline = self.encode("\n")
        ids = [self.bos_id]
        for number, turn in enumerate(fold_system(messages)):
            if turn.role != ("user", "assistant")[number % 2]:
                raise ValueError(
                    f"turn {number + 1} is the {turn.role}'s: a chat begins with the user, "
                    "and user and assistant take turns"
                )
            role = "user" if turn.role == "user" else "model"
            text = self.encode(f"{role}\n{turn.content.strip()}")
            ids += [self.start_of_turn_id, *text, self.end_of_turn_id, *newline]
        return ids + [self.start_of_turn_id, *self.encode("model\n")] * generation_prompt

    def encode_completion(self, text: str) -> list[int]:
        """Ids of what the model is to say after encode_chat: the text, then <end_of_turn>."""
        return [*self.encode(text), self.end_of_turn_id]

    def _control_tokens(self) -> dict[str, int]:
        """Names and ids of the tokens that steer the model, and that text must not become."""
        names = (PAD, EOS, BOS, START, END)
        known = {name: i for name in names if (i := self._tokenizer.token_to_id(name)) is not None}
        for i, token in self._tokenizer.get_added_tokens_decoder().items():
            shaped = BRACKETED.fullmatch(token.content) and not HTML.fullmatch(token.content)
            if token.special or shaped:
                known[token.content] = i
        return known


def _cut_pattern(names: Sequence[str]) -> re.Pattern[str]:
    """Matches the first character of each occurrence of a name, even where names overlap."""
    rests: dict[str, list[str]] = {}
    for name in names:
        rests.setdefault(name[0], []).append(re.escape(name[1:]))
    return re.compile("|".join(f"{re.escape(c)}(?={'|'.join(r)})" for c, r in rests.items()))


def _no_tokenizer_json(folder: Path) -> str:
    if (folder / "tokenizer.model").is_file():
        return (
            f"{folder} has tokenizer.model but no tokenizer.json; make one with transformers: "
            f"AutoTokenizer.from_pretrained({str(folder)!r}).save_pretrained({str(folder)!r})"
        )
    return f"{folder} has no tokenizer.json: copy the one that belongs to the model into it"


def _fetch(hub_id: str) -> Path:
    """The local path of the hub model's tokenizer.json, downloaded or from the cache."""
    if not is_hub_id(hub_id):
        raise FileNotFoundError(
            f"there is no tokenizer at {hub_id}: give a folder with tokenizer.json, "
            "that file itself, or a hub id such as google/gemma-2-2b-it"
        )
    # Here, because it is slow to import and only hub ids need it.
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import EntryNotFoundError, GatedRepoError, RepositoryNotFoundError

    try:
        return Path(hf_hub_download(hub_id, "tokenizer.json"))
    except GatedRepoError:
        reason = (
            "on the hub it is gated: accept its terms on its page and log in with `hf auth login`"
        )
    except RepositoryNotFoundError:
        reason = "no such model that you may read is on the hub"
    except (EntryNotFoundError, OSError) as error:
        reason = "the hub gave no tokenizer.json: " + str(error).split("\n")[0]
    raise FileNotFoundError(
        f"the tokenizer of {hub_id} could not be had: there is no such folder here (looked from "
        f"{Path.cwd()}), and {reason}"
    )
