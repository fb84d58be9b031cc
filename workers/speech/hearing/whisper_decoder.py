"""One window of Whisper: what the decoder writes, and how probable that was."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers import GenerationConfig, GenerationMixin
from transformers.generation.logits_process import (
    LogitsProcessor,
    SuppressTokensAtBeginLogitsProcessor,
    WhisperTimeStampLogitsProcessor,
)
from transformers.generation.stopping_criteria import StoppingCriteriaList
from transformers.modeling_outputs import BaseModelOutput

from workers.runtime.runner import InputRejected
from workers.speech.transcription_schema import Transcription

WARMER = 0.2  # what the temperature grows by when a window was heard badly
REPETITION = 2.4  # a text that zlib makes so many times smaller goes round in circles


@dataclass(frozen=True, slots=True)
class Manner:
    """How a request wants its windows decoded. `prompt` are the tokens that stand before the text."""

    request: Transcription
    prompt: tuple[int, ...]
    stamped: bool
    stops: StoppingCriteriaList


@dataclass(frozen=True, slots=True)
class Decoded:
    """A window's `tokens` without the end's, the natural logarithm of each one's probability, and their mean."""

    tokens: list[int]
    logarithms: list[float]
    mean: float


class Decoder:
    """Whisper's decoder with its tokens and its own settings of generation."""

    def __init__(self, network: Any, tokenizer: Any) -> None:
        self._network, self._tokenizer, self._own = network, tokenizer, network.generation_config
        # What a decoding follows stands in `_config`; nothing is to be added to it behind its back.
        network.generation_config = GenerationConfig()
        vocabulary: int = network.config.vocab_size
        self.bare: int | None = getattr(self._own, "no_timestamps_token_id", None)
        self.first_stamp = vocabulary if self.bare is None else self.bare + 1
        self.knows_stamps = self.first_stamp < vocabulary
        self.end: int = self._own.eos_token_id
        self._start: int = self._own.decoder_start_token_id
        self._nobody = self.bare - 1 if self.bare else None  # every Whisper has the sign for silence there
        self.languages: dict[str, int] = {
            name.strip("<|>"): token for name, token in (getattr(self._own, "lang_to_id", None) or {}).items()
        }
        self.alignment_heads: list[list[int]] = getattr(self._own, "alignment_heads", None) or []
        self._blanks = self._own.begin_suppress_tokens or tokenizer.encode(" ", add_special_tokens=False)
        self._positions: int = network.config.max_target_positions

    def prompt(self, language: str | None, request: Transcription, stamped: bool) -> tuple[int, ...]:
        """Earlier words, the start, the language, the task, and whether there are timestamps.

        Raises InputRejected for words that cannot be a prompt.
        """
        said = [self._start]
        if self.languages and language:
            tasks = getattr(self._own, "task_to_id", None) or {}
            said += [self.languages[language], *([tasks[request.task]] if tasks else [])]
        if not stamped and self.bare is not None:
            said.append(self.bare)
        return (*self._earlier(request.initial_prompt), *said)

    def detect(self, encoded: Tensor) -> tuple[str, float]:
        """The likeliest language of this window and its probability among the known ones."""
        scores = self.look(encoded, [self._start]).logits[0, -1].float()
        chances = scores[list(self.languages.values())].softmax(-1)
        best = int(chances.argmax())
        return list(self.languages)[best], float(chances[best])

    def best(self, encoded: Tensor, manner: Manner) -> Decoded | None:
        """The first decoding that is heard well, each warmer than the one before; None if nobody speaks."""
        temperature, request = manner.request.temperature, manner.request
        while True:
            tokens = self._write(encoded, temperature, manner)
            decoded, silence = self._weighed(encoded, tokens, manner)
            badly = decoded.mean < request.logprob_threshold
            if badly and silence > request.no_speech_threshold:
                return None
            temperature += WARMER
            if temperature > 1 + WARMER / 2 or not (badly or self._repeats(tokens)):
                return decoded

    def look(self, encoded: Tensor, tokens: Sequence[int], **wanted: Any) -> Any:
        """What the network makes of tokens that are given."""
        given = torch.tensor([list(tokens)], device=encoded.device)
        outputs = BaseModelOutput(last_hidden_state=encoded)
        return self._network(encoder_outputs=outputs, decoder_input_ids=given, use_cache=False, **wanted)

    def text(self, tokens: Sequence[int]) -> str:
        """The words of these tokens; those that are no text leave nothing."""
        return str(self._tokenizer.decode([token for token in tokens if token < self.end], skip_special_tokens=True))

    def _write(self, encoded: Tensor, temperature: float, manner: Manner) -> list[int]:
        config, begin = self._config(temperature, manner), len(manner.prompt)
        # Whisper's own `generate` is a loop over windows; here one window is asked for.
        written = GenerationMixin.generate(
            self._network,
            encoder_outputs=BaseModelOutput(last_hidden_state=encoded),
            decoder_input_ids=torch.tensor([manner.prompt], device=encoded.device),
            generation_config=config,
            logits_processor=self._rules(config, begin, manner),
            stopping_criteria=manner.stops,
        )
        tokens: list[int] = written[0, begin:].tolist()
        return tokens[: tokens.index(self.end)] if self.end in tokens else tokens

    def _rules(self, config: GenerationConfig, begin: int, manner: Manner) -> list[LogitsProcessor]:
        """What may not be written: a blank where the text begins, and timestamps out of order."""
        rules: list[LogitsProcessor] = []
        if manner.request.suppress_blank:
            # Behind a timestamp the end may come at once: that is how a window without speech is written.
            blanks = [token for token in self._blanks if token != self.end] if manner.stamped else self._blanks
            rules.append(SuppressTokensAtBeginLogitsProcessor(blanks, begin + manner.stamped, self._network.device))
        if manner.stamped:
            rules.append(WhisperTimeStampLogitsProcessor(config, begin))
        return rules

    def _signs(self, stamped: bool) -> range:
        """The tokens behind the text's: languages, tasks and their like are no answer, and stamps only if asked."""
        return range(self.end + 1, self.first_stamp if stamped else self._network.config.vocab_size)

    def _config(self, temperature: float, manner: Manner) -> GenerationConfig:
        sampled = temperature > 0
        choosing = {"do_sample": True, "temperature": temperature, "top_k": 0} if sampled else {"do_sample": False}
        return GenerationConfig(
            bos_token_id=self._own.bos_token_id,
            eos_token_id=self.end,
            pad_token_id=self.end if self._own.pad_token_id is None else self._own.pad_token_id,
            decoder_start_token_id=self._start,
            suppress_tokens=[*(self._own.suppress_tokens or []), *self._signs(manner.stamped)],
            max_new_tokens=min(self._positions - len(manner.prompt), self._positions // 2),
            num_beams=1 if sampled else manner.request.beam_size,
            no_timestamps_token_id=self.bare,
            max_initial_timestamp_index=getattr(self._own, "max_initial_timestamp_index", None),
            **choosing,
        )

    def _weighed(self, encoded: Tensor, tokens: list[int], manner: Manner) -> tuple[Decoded, float]:
        """The tokens with their probabilities, and the probability that nobody speaks: one look at all of them."""
        prompt, chosen = manner.prompt, [*tokens, self.end]
        rows = self.look(encoded, [*prompt, *tokens]).logits[0].float().log_softmax(-1)
        each = rows[len(prompt) - 1 :].gather(1, torch.tensor(chosen, device=rows.device)[:, None])[:, 0].tolist()
        spoken = [value for value, token in zip(each, chosen, strict=True) if token < self.first_stamp]
        start = len(prompt) - 1 - prompt[::-1].index(self._start)
        silence = 0.0 if self._nobody is None else float(rows[start, self._nobody].exp())
        return Decoded(tokens, each[:-1], sum(spoken) / len(spoken)), silence

    def _repeats(self, tokens: Sequence[int]) -> bool:
        said = self.text(tokens).encode()
        return len(said) > REPETITION * len(zlib.compress(said))

    def _earlier(self, words: str | None) -> list[int]:
        """The tokens of an initial prompt, its last ones if there are too many."""
        if words is None:
            return []
        try:
            first, *rest = self._tokenizer.get_prompt_ids(words, return_tensors="pt").tolist()
        except ValueError:
            raise InputRejected("initial_prompt: it has a word that is a sign of the model's own.") from None
        return [first, *rest[-(self._positions // 2 - 1) :]]
