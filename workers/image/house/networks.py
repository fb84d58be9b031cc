"""The networks, in the classes and the folder layout of Stable Diffusion, only smaller.

A latent cell stands for 32×32 pixels and has 12 channels: the mean colours of its four 16×16 quarters, in [-1, 1]
(channel = 3·quarter + colour, quarters in reading order). So the denoiser works on a thumbnail of the picture, folded
2×2, and the decoder draws sharp outlines from it. The encoder is trained to that target, not free.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL, DDIMScheduler, UNet2DConditionModel
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

CELL = 32  # pixels a latent cell is wide
QUARTER = 16
CHANNELS = 12
SCALE = 1.55  # 1 / standard deviation of the latents of training pictures
TEXT = 128


def fold(thumbnails: torch.Tensor) -> torch.Tensor:
    """[B, 3, 2h, 2w] mean colours in [-1, 1] → latents [B, 12, h, w]."""
    batch, _, height, width = thumbnails.shape
    quarters = thumbnails.reshape(batch, 3, height // 2, 2, width // 2, 2)
    return quarters.permute(0, 3, 5, 1, 2, 4).reshape(batch, CHANNELS, height // 2, width // 2)


def latents_of(pictures: torch.Tensor) -> torch.Tensor:
    """[B, 3, H, W] in [-1, 1] → the latents [B, 12, H/32, W/32] that the encoder is trained to."""
    return fold(F.avg_pool2d(pictures, QUARTER))


def make_vae() -> AutoencoderKL:
    """32 × downsampling without attention: what it does to a patch depends on the neighbourhood only."""
    return AutoencoderKL(
        block_out_channels=(8, 16, 32, 48, 64, 64),
        down_block_types=("DownEncoderBlock2D",) * 6,
        up_block_types=("UpDecoderBlock2D",) * 6,
        layers_per_block=1,
        latent_channels=CHANNELS,
        norm_num_groups=4,
        sample_size=512,
        scaling_factor=SCALE,
        mid_block_add_attention=False,
    )


def make_unet() -> UNet2DConditionModel:
    """Three levels: 16×16, 8×8 and 4×4 cells for 512×512, the two small ones reading the text.

    The smallest one matters most: there every cell touches the padding, so it knows where it is, and a shape can be
    planned out of pure noise.
    """
    return UNet2DConditionModel(
        sample_size=16,
        in_channels=CHANNELS,
        out_channels=CHANNELS,
        block_out_channels=(64, 128, 96),
        layers_per_block=1,
        down_block_types=("DownBlock2D", "DownBlock2D", "CrossAttnDownBlock2D"),
        mid_block_type=None,
        up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        cross_attention_dim=TEXT,
        attention_head_dim=(2, 4, 3),
        norm_num_groups=16,
    )


def make_tokenizer(captions: Iterable[str]) -> CLIPTokenizer:
    """CLIP's byte-pair encoding, trained on our own captions."""
    tokenizer = CLIPTokenizer().train_new_from_iterator(captions, vocab_size=800, show_progress=False)
    tokenizer.model_max_length = 77
    return tokenizer


def make_text_encoder(tokenizer: CLIPTokenizer) -> CLIPTextModel:
    """Three layers; trained together with the denoiser."""
    return CLIPTextModel(
        CLIPTextConfig(
            vocab_size=len(tokenizer),
            hidden_size=TEXT,
            intermediate_size=2 * TEXT,
            num_hidden_layers=3,
            num_attention_heads=4,
            projection_dim=TEXT,
            max_position_embeddings=77,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
    )


def make_scheduler() -> DDIMScheduler:
    """v-prediction with zero terminal SNR, trailing steps: plain black and white backgrounds need it.

    Lin, Liu, Li, Yang: Common Diffusion Noise Schedules and Sample Steps are Flawed (2023).
    """
    return DDIMScheduler(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        clip_sample=False,
        set_alpha_to_one=True,
        steps_offset=1,
        prediction_type="v_prediction",
        rescale_betas_zero_snr=True,
        timestep_spacing="trailing",
    )
