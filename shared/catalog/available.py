"""Models worth having, by hand: what GET /models/available lists, each to be asked for by POST /models/download.

Sizes are of the published files that a download takes (safetensors, of one variant), and approximate. No revision is
pinned: the commit is resolved, and recorded, when a model is downloaded. Those tagged "pickles" had, when this was
written, no safetensors on their main branch: of them the hub's own conversion is taken, where it offers one.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from shared.catalog.tasks import SPEECH_RECOGNITION, TEXT_TO_SPEECH

Advice = Literal["beginners", "advanced", "fast_setup", "highest_quality"]


@dataclass(frozen=True, slots=True, kw_only=True)
class AvailableModel:
    """One of them. What is not `usable` here has `instead`, which says why and what to take.

    `max_text` is the most characters that one that speaks is given at once.
    """

    name: str
    family: str
    task: str
    source: str = "huggingface"
    repository: str
    revision: str | None = None
    licence: str
    size_bytes: int
    parameters: int | None
    description: str
    tags: tuple[str, ...]
    usable: bool = True
    instead: str | None = None
    max_text: int | None = None
    recommended: tuple[Advice, ...] = ()


PICTURES = (
    AvailableModel(
        name="stable-diffusion-v1-5",
        family="image",
        task="text-to-image",
        repository="stable-diffusion-v1-5/stable-diffusion-v1-5",
        licence="creativeml-openrail-m",
        size_bytes=2_700_000_000,
        parameters=1_070_000_000,
        description="Pictures from text at 512×512, in half precision; most LoRAs are made for it.",
        tags=("sd15",),
        recommended=("beginners",),
    ),
    AvailableModel(
        name="lcm-lora-sdv1-5",
        family="image",
        task="lora",
        repository="latent-consistency/lcm-lora-sdv1-5",
        licence="openrail++",
        size_bytes=135_000_000,
        parameters=67_500_000,
        description="A LoRA by which Stable Diffusion 1.5 needs 4 to 8 steps instead of 20 and more.",
        tags=("sd15", "lora"),
        recommended=("fast_setup",),
    ),
    AvailableModel(
        name="flux2-klein-4b",
        family="reference",
        task="image-to-image",
        repository="black-forest-labs/FLUX.2-klein-4B",
        licence="apache-2.0",
        size_bytes=16_000_000_000,
        parameters=8_000_000_000,
        description="Pictures from text and reference pictures in 4 steps (nano).",
        tags=("flux2", "reference"),
        recommended=("advanced",),
    ),
    AvailableModel(
        name="flux2-klein-base-4b",
        family="reference",
        task="image-to-image",
        repository="black-forest-labs/FLUX.2-klein-base-4B",
        licence="apache-2.0",
        size_bytes=16_000_000_000,
        parameters=8_000_000_000,
        description="The same before it was distilled: 50 steps with guidance, up to 2K (pro).",
        tags=("flux2", "reference"),
        recommended=("highest_quality",),
    ),
)

VOICES = (
    AvailableModel(
        name="speecht5",
        family="speech",
        task=TEXT_TO_SPEECH,
        repository="microsoft/speecht5_tts",
        licence="mit",
        size_bytes=640_000_000,
        parameters=144_000_000,
        description="English, in the voice of a speaker embedding; `auto_convert_tts` brings its vocoder along.",
        tags=("tts", "pickles"),
        max_text=5000,
        recommended=("beginners",),
    ),
    AvailableModel(
        name="mms-tts-eng",
        family="speech",
        task=TEXT_TO_SPEECH,
        repository="facebook/mms-tts-eng",
        licence="cc-by-nc-4.0",
        size_bytes=145_000_000,
        parameters=36_300_000,
        description="One English voice (VITS), quick; not for commercial use. facebook/mms-tts-… has 1,100 languages.",
        tags=("tts", "vits"),
        max_text=5000,
        recommended=("fast_setup",),
    ),
    AvailableModel(
        name="vits-ljs",
        family="speech",
        task=TEXT_TO_SPEECH,
        repository="kakao-enterprise/vits-ljs",
        licence="mit",
        size_bytes=145_000_000,
        parameters=36_000_000,
        description="One English voice (VITS).",
        tags=("tts", "vits"),
        max_text=5000,
    ),
    AvailableModel(
        name="bark-small",
        family="speech",
        task=TEXT_TO_SPEECH,
        repository="suno/bark-small",
        licence="mit",
        size_bytes=1_700_000_000,
        parameters=420_000_000,
        description="Speech with laughter and sighs in a dozen languages; slow without a GPU.",
        tags=("tts", "bark", "pickles"),
        max_text=1000,
        recommended=("advanced",),
    ),
    AvailableModel(
        name="bark",
        family="speech",
        task=TEXT_TO_SPEECH,
        repository="suno/bark",
        licence="mit",
        size_bytes=4_500_000_000,
        parameters=1_100_000_000,
        description="The larger one of the two.",
        tags=("tts", "bark", "pickles"),
        max_text=1000,
        recommended=("highest_quality",),
    ),
    AvailableModel(
        name="bart",
        family="speech",
        task=TEXT_TO_SPEECH,
        repository="facebook/bart-large",
        licence="apache-2.0",
        size_bytes=1_020_000_000,
        parameters=406_000_000,
        description="A language model for texts.",
        tags=("tts",),
        usable=False,
        instead="BART makes texts and no sound: speecht5 speaks, bart-large-cnn summarises.",
    ),
    AvailableModel(
        name="vall_e_x",
        family="speech",
        task=TEXT_TO_SPEECH,
        repository="Plachta/VALL-E-X",
        licence="mit",
        size_bytes=1_500_000_000,
        parameters=370_000_000,
        description="Speech in a voice that it heard for three seconds.",
        tags=("tts",),
        usable=False,
        instead="Its weights are a pickle, which is never loaded here: bark speaks with many voices.",
    ),
    AvailableModel(
        name="tacotron2",
        family="speech",
        task=TEXT_TO_SPEECH,
        repository="speechbrain/tts-tacotron2-ljspeech",
        licence="apache-2.0",
        size_bytes=113_000_000,
        parameters=28_000_000,
        description="One English voice of 2018.",
        tags=("tts",),
        usable=False,
        instead="transformers has no Tacotron 2, and its weights are pickles: vits-ljs learnt the same voice.",
    ),
)

EARS = (
    AvailableModel(
        name="whisper-tiny",
        family="speech",
        task=SPEECH_RECOGNITION,
        repository="openai/whisper-tiny",
        licence="apache-2.0",
        size_bytes=151_000_000,
        parameters=37_800_000,
        description="99 languages, the quickest.",
        tags=("stt", "whisper"),
        recommended=("fast_setup",),
    ),
    AvailableModel(
        name="whisper-base",
        family="speech",
        task=SPEECH_RECOGNITION,
        repository="openai/whisper-base",
        licence="apache-2.0",
        size_bytes=290_000_000,
        parameters=72_600_000,
        description="99 languages, quick.",
        tags=("stt", "whisper"),
        recommended=("beginners",),
    ),
    AvailableModel(
        name="whisper-small",
        family="speech",
        task=SPEECH_RECOGNITION,
        repository="openai/whisper-small",
        licence="apache-2.0",
        size_bytes=967_000_000,
        parameters=242_000_000,
        description="99 languages, good.",
        tags=("stt", "whisper"),
    ),
    AvailableModel(
        name="whisper-medium",
        family="speech",
        task=SPEECH_RECOGNITION,
        repository="openai/whisper-medium",
        licence="apache-2.0",
        size_bytes=3_060_000_000,
        parameters=764_000_000,
        description="99 languages, better.",
        tags=("stt", "whisper"),
    ),
    AvailableModel(
        name="whisper-large-v3",
        family="speech",
        task=SPEECH_RECOGNITION,
        repository="openai/whisper-large-v3",
        licence="apache-2.0",
        size_bytes=3_090_000_000,
        parameters=1_540_000_000,
        description="99 languages, the best.",
        tags=("stt", "whisper"),
        recommended=("highest_quality",),
    ),
    AvailableModel(
        name="whisper-large-v3-turbo",
        family="speech",
        task=SPEECH_RECOGNITION,
        repository="openai/whisper-large-v3-turbo",
        licence="mit",
        size_bytes=1_620_000_000,
        parameters=809_000_000,
        description="Nearly as good, and far quicker.",
        tags=("stt", "whisper"),
        recommended=("advanced",),
    ),
    AvailableModel(
        name="wav2vec2-base-960h",
        family="speech",
        task=SPEECH_RECOGNITION,
        repository="facebook/wav2vec2-base-960h",
        licence="apache-2.0",
        size_bytes=378_000_000,
        parameters=94_400_000,
        description="English, in capitals and without punctuation (CTC).",
        tags=("stt", "ctc"),
    ),
)

PREDICTORS = (
    AvailableModel(
        name="distilbert-sst2",
        family="predict",
        task="text-classification",
        repository="distilbert/distilbert-base-uncased-finetuned-sst-2-english",
        licence="apache-2.0",
        size_bytes=268_000_000,
        parameters=67_000_000,
        description="Whether an English sentence is positive or negative.",
        tags=("text",),
        recommended=("beginners", "fast_setup"),
    ),
    AvailableModel(
        name="all-minilm-l6-v2",
        family="predict",
        task="feature-extraction",
        repository="sentence-transformers/all-MiniLM-L6-v2",
        licence="apache-2.0",
        size_bytes=91_000_000,
        parameters=22_700_000,
        description="384 numbers for a sentence; those of similar sentences are near.",
        tags=("text",),
        recommended=("fast_setup",),
    ),
    AvailableModel(
        name="bert-base-uncased",
        family="predict",
        task="fill-mask",
        repository="google-bert/bert-base-uncased",
        licence="apache-2.0",
        size_bytes=440_000_000,
        parameters=110_000_000,
        description="Fills gaps in English sentences.",
        tags=("text",),
    ),
    AvailableModel(
        name="bart-large-cnn",
        family="predict",
        task="summarization",
        repository="facebook/bart-large-cnn",
        licence="mit",
        size_bytes=1_630_000_000,
        parameters=406_000_000,
        description="Summaries of English news.",
        tags=("text",),
        recommended=("highest_quality",),
    ),
    AvailableModel(
        name="distilbart-cnn-12-6",
        family="predict",
        task="summarization",
        repository="sshleifer/distilbart-cnn-12-6",
        licence="apache-2.0",
        size_bytes=1_220_000_000,
        parameters=306_000_000,
        description="Nearly the same, smaller and quicker.",
        tags=("text", "pickles"),
    ),
    AvailableModel(
        name="bart-large-mnli",
        family="predict",
        task="zero-shot-classification",
        repository="facebook/bart-large-mnli",
        licence="mit",
        size_bytes=1_630_000_000,
        parameters=407_000_000,
        description="Sorts English texts under labels that you name.",
        tags=("text",),
        recommended=("advanced",),
    ),
    AvailableModel(
        name="vit-base-patch16-224",
        family="predict",
        task="image-classification",
        repository="google/vit-base-patch16-224",
        licence="apache-2.0",
        size_bytes=346_000_000,
        parameters=86_600_000,
        description="Which of 1,000 things (ImageNet) a picture shows.",
        tags=("picture",),
        recommended=("beginners",),
    ),
    AvailableModel(
        name="smollm2-135m-instruct",
        family="predict",
        task="text-generation",
        repository="HuggingFaceTB/SmolLM2-135M-Instruct",
        licence="apache-2.0",
        size_bytes=269_000_000,
        parameters=135_000_000,
        description="A language model that runs anywhere.",
        tags=("text", "llm"),
        recommended=("fast_setup",),
    ),
    AvailableModel(
        name="qwen3-0.6b",
        family="predict",
        task="text-generation",
        repository="Qwen/Qwen3-0.6B",
        licence="apache-2.0",
        size_bytes=1_500_000_000,
        parameters=600_000_000,
        description="A small language model in a hundred languages.",
        tags=("text", "llm"),
        recommended=("advanced",),
    ),
)

AVAILABLE: tuple[AvailableModel, ...] = (*PICTURES, *VOICES, *EARS, *PREDICTORS)
