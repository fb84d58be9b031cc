"""Networks that write down what they hear without telling when: Moonshine, Speech2Text and their kin."""

from __future__ import annotations

import math

import torch
from transformers import AutoFeatureExtractor, AutoModelForSpeechSeq2Seq, AutoTokenizer

from workers.runtime.runner import Job
from workers.speech.hearing.abilities import ear_details
from workers.speech.hearing.heard import Heard, Samples, Segment, mean_probability
from workers.speech.hearing.samples import Window, windows
from workers.speech.hearing.steps import Steps
from workers.speech.loading import dtype_for, load_network, load_part, loading
from workers.speech.model import SpeechModel
from workers.speech.transcription_schema import Transcription

SECONDS = 20.0  # of a window, which is one segment
TOKENS_A_SECOND = 8  # nobody speaks faster; a network that goes on is lost
FIELDS = {"beam_size", "temperature"}


class WritingEar:
    """See `workers.speech.hearing.heard.Ear`."""

    def __init__(self, model: SpeechModel, device: str) -> None:
        with loading(model.name):
            self._extract = load_part(AutoFeatureExtractor, model.folder)
            self._tokenizer = load_part(AutoTokenizer, model.folder)
            self._network = load_network(AutoModelForSpeechSeq2Seq, model.folder, device, dtype=dtype_for(device))
        self._device, config = device, self._network.config
        self._positions: int = getattr(config, "max_target_positions", None) or config.max_position_embeddings
        self.rate: int = self._extract.sampling_rate
        self._languages: list[str] = ear_details(model)["languages"]

    def hear(self, samples: Samples, request: Transcription, job: Job) -> Heard:
        torch.manual_seed(0)  # what is drawn at a temperature is drawn alike at every attempt
        pieces = list(windows(samples, self.rate, SECONDS))
        steps, segments = Steps(job, len(pieces)), []
        for done, piece in enumerate(pieces):
            steps.reach(done)
            text, sure = self._written(piece, request, steps)
            start = piece.start / self.rate
            segments += [Segment(start, start + len(piece.samples) / self.rate, text, sure)] if text else []
        steps.finish()
        return Heard(tuple(segments), self._languages[0] if len(self._languages) == 1 else None)

    def close(self) -> None:
        del self._network

    @torch.inference_mode()
    def _written(self, piece: Window, request: Transcription, steps: Steps) -> tuple[str, float]:
        """The text of a window, and how sure the network is of it."""
        given = self._extract(piece.samples, sampling_rate=self.rate, return_tensors="pt", return_attention_mask=True)
        sampled = request.temperature > 0
        longest = math.ceil(len(piece.samples) / self.rate * TOKENS_A_SECOND) + 8
        made = self._network.generate(
            **{
                name: value.to(self._device, self._network.dtype if value.is_floating_point() else value.dtype)
                for name, value in given.items()
            },
            max_new_tokens=min(longest, self._positions - 1),
            num_beams=1 if sampled else request.beam_size,
            do_sample=sampled,
            **({"temperature": request.temperature, "top_k": 0} if sampled else {}),
            return_dict_in_generate=True,
            output_scores=True,
            stopping_criteria=steps.criteria,
        )
        written = made.sequences[0]
        text = self._tokenizer.decode(written, skip_special_tokens=True).strip()
        scores = tuple(score * request.temperature for score in made.scores) if sampled else made.scores
        each = self._network.compute_transition_scores(
            made.sequences, scores, getattr(made, "beam_indices", None), normalize_logits=True
        )[0]
        signs = set(self._tokenizer.all_special_ids)
        own = written[-len(each) :].tolist()
        return text, mean_probability([float(v) for v, token in zip(each, own, strict=True) if token not in signs])
