"""The models of a gateway without workers: else every request for one would be refused with 503."""

MODELS = """
INSERT INTO models (family, kind, name, title, reported_by)
VALUES ('image', 'model', 'house-shapes', 'House', 'test'), ('avatar', 'model', 'house-heads', 'House', 'test'),
    ('predict', 'model', 'example', 'Example', 'test'),
    ('toy', 'model', 'toy', 'Toy', 'test'), ('toy', 'model', 'brittle', 'Brittle toy', 'test');
INSERT INTO models (family, kind, name, title, details, reported_by) VALUES ('speech', 'model', 'house-voice', 'House',
    '{"engine": "eSpeak NG", "voices": ["f1"], "languages": ["en-us"], "max_characters": 5000, "sample_rate": 22050}',
    'test');
INSERT INTO models (family, kind, name, title, details, reported_by) VALUES ('speech', 'model', 'house-ear', 'House',
    '{"languages": ["en"], "tasks": ["transcribe"], "sample_rate": 16000, "fields": ["beam_size"]}', 'test');
"""
