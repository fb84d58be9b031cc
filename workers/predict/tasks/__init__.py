"""What models do, a file a task; `TASKS` is the list of them."""

from workers.predict.tasks.example import Example
from workers.predict.tasks.feature_extraction import FeatureExtraction
from workers.predict.tasks.fill_mask import FillMask
from workers.predict.tasks.image_classification import ImageClassification
from workers.predict.tasks.onnx_model import OnnxModel
from workers.predict.tasks.summarization import Summarization
from workers.predict.tasks.task import Task
from workers.predict.tasks.text_classification import TextClassification
from workers.predict.tasks.text_generation import TextGeneration
from workers.predict.tasks.zero_shot import ZeroShotClassification

TASKS: dict[str, type[Task]] = {
    "tabular-regression": Example,
    "onnx": OnnxModel,
    "text-classification": TextClassification,
    "image-classification": ImageClassification,
    "feature-extraction": FeatureExtraction,
    "fill-mask": FillMask,
    "zero-shot-classification": ZeroShotClassification,
    "summarization": Summarization,
    "text-generation": TextGeneration,
}
