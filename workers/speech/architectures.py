"""The one table of engines: which class of ours serves a folder, by the architecture that its config.json names."""

from __future__ import annotations

from shared.catalog.tasks import SPEECH_RECOGNITION, TEXT_TO_SPEECH

SPEAKING, HEARING = TEXT_TO_SPEECH, SPEECH_RECOGNITION

ESPEAK = "workers.speech.voices.espeak:EspeakVoice"
WAVEFORM = "workers.speech.voices.waveform:WaveformVoice"

# Architecture → `module:Class` with `__init__(folder, device)`, see `voices/voice.py`.
VOICES = {
    "SpeechT5ForTextToSpeech": "workers.speech.voices.speecht5:SpeechT5Voice",
    "VitsModel": "workers.speech.voices.vits:VitsVoice",
    "BarkModel": "workers.speech.voices.bark:BarkVoice",
    "CsmForConditionalGeneration": WAVEFORM,
    "FastSpeech2ConformerWithHifiGan": WAVEFORM,
    "GradiumPhononTTSForConditionalGeneration": WAVEFORM,
    "PocketTTSForConditionalGeneration": WAVEFORM,
    "SeamlessM4TForTextToSpeech": WAVEFORM,
    "SeamlessM4Tv2ForTextToSpeech": WAVEFORM,
    "VibeVoiceForConditionalGeneration": WAVEFORM,
}

SPELLS = "workers.speech.hearing.ctc:SpellingEar"
WRITES = "workers.speech.hearing.seq2seq:WritingEar"

# Architecture → `module:Class` with `__init__(model, device)`, see `hearing/heard.py`.
EARS = {
    "WhisperForConditionalGeneration": "workers.speech.hearing.whisper:WhisperEar",
    "MoonshineForConditionalGeneration": WRITES,
    "Speech2TextForConditionalGeneration": WRITES,
    "Data2VecAudioForCTC": SPELLS,
    "HubertForCTC": SPELLS,
    "ParakeetForCTC": SPELLS,
    "SEWDForCTC": SPELLS,
    "SEWForCTC": SPELLS,
    "UniSpeechForCTC": SPELLS,
    "UniSpeechSatForCTC": SPELLS,
    "Wav2Vec2BertForCTC": SPELLS,
    "Wav2Vec2ConformerForCTC": SPELLS,
    "Wav2Vec2ForCTC": SPELLS,
    "WavLMForCTC": SPELLS,
}


def served(architecture: str) -> tuple[str, str] | None:
    """The task of this architecture and the engine that serves it, or None."""
    for task, engines in ((SPEAKING, VOICES), (HEARING, EARS)):
        if architecture in engines:
            return task, engines[architecture]
    return None
