"""A true Stable Diffusion of a million random weights, and LoRAs for it: for loading and running, not for pictures."""

from __future__ import annotations

from pathlib import Path

import torch
from diffusers import AutoencoderKL, DDIMScheduler, StableDiffusionPipeline, UNet2DConditionModel
from safetensors.torch import load_file, save_file
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from workers.image.house.drawing import COLOURS, SHAPES

LAYERS = ["to_q", "to_k", "to_v", "to_out.0"]


def build(folder: Path, variant: str | None = None) -> Path:
    """Write the pipeline in the standard layout; `variant` "fp16" names and stores it so."""
    torch.manual_seed(0)
    captions = [f"a {colour} {shape}" for colour in COLOURS for shape in SHAPES]
    tokenizer = CLIPTokenizer().train_new_from_iterator(captions, vocab_size=400, show_progress=False)
    tokenizer.model_max_length = 77
    text = CLIPTextModel(
        CLIPTextConfig(
            vocab_size=len(tokenizer),
            hidden_size=32,
            intermediate_size=64,
            num_hidden_layers=2,
            num_attention_heads=4,
            projection_dim=32,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
    )
    unet = UNet2DConditionModel(
        sample_size=32,
        block_out_channels=(32, 64),
        layers_per_block=1,
        cross_attention_dim=32,
        attention_head_dim=8,
        norm_num_groups=8,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
    )
    vae = AutoencoderKL(
        block_out_channels=(16, 32, 32, 32),
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        norm_num_groups=8,
    )
    pipeline = StableDiffusionPipeline(
        vae=vae,
        text_encoder=text,
        tokenizer=tokenizer,
        unet=unet,
        scheduler=DDIMScheduler(beta_schedule="scaled_linear", clip_sample=False, steps_offset=1),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    if variant:
        pipeline.to(torch.float16)
    pipeline.save_pretrained(folder, variant=variant)
    return folder


def build_lora(model: Path, path: Path, seed: int, wrong: bool = False) -> Path:
    """A LoRA for the attention of `model`; `wrong` gives it shapes that do not fit."""
    from diffusers.utils import convert_state_dict_to_diffusers
    from peft import LoraConfig
    from peft.utils import get_peft_model_state_dict

    torch.manual_seed(seed)
    pipeline = StableDiffusionPipeline.from_pretrained(model, local_files_only=True)
    pipeline.unet.add_adapter(LoraConfig(r=4, lora_alpha=4, init_lora_weights="gaussian", target_modules=LAYERS))
    state = convert_state_dict_to_diffusers(get_peft_model_state_dict(pipeline.unet))
    state = {key: torch.randn_like(value) for key, value in state.items()}
    if wrong:
        state = {key: torch.randn(value.shape[0] + 3, value.shape[1] + 3) for key, value in state.items()}
    folder = path.parent / "tmp"
    StableDiffusionPipeline.save_lora_weights(folder, unet_lora_layers=state)
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file(load_file(folder / "pytorch_lora_weights.safetensors"), path)
    (folder / "pytorch_lora_weights.safetensors").unlink()
    folder.rmdir()
    return path
