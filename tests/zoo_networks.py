"""Networks of mmsegmentation's own zoo in tiny sizes: the published configs, with few channels and blocks."""

from pathlib import Path
from typing import Any

from seg_transfer.models.compat import import_mmseg
from seg_transfer.models.configs import ModelConfig, read_model_config

WIDTHS = [4, 8, 16, 32]
_RESNET = {"depth": 18, "stem_channels": 4, "base_channels": 4}
_HRNET = {
    "extra": {
        "stage1": {"num_channels": [4], "num_blocks": [1], "block": "BASIC"},
        "stage2": {"num_channels": WIDTHS[:2], "num_blocks": [1, 1]},
        "stage3": {"num_channels": WIDTHS[:3], "num_blocks": [1, 1, 1], "num_modules": 1},
        "stage4": {"num_channels": WIDTHS, "num_blocks": [1, 1, 1, 1], "num_modules": 1},
    }
}
_SMALL_UPDATE = {
    "num_heads": 2,
    "feedforward_channels": 8,
    "in_channels": 8,
    "out_channels": 8,
    "kernel_updator_cfg": {"in_channels": 8, "feat_channels": 8, "out_channels": 8},
}
_CHANGES: dict[str, tuple[str, dict[str, Any]]] = {
    "fcn_hrnet": (
        "hrnet/fcn_hr18s_4xb2-40k_cityscapes-512x1024.py",
        {"backbone": _HRNET, "decode_head": {"in_channels": WIDTHS, "channels": 60}},
    ),
    "deeplabv3plus": (
        "deeplabv3plus/deeplabv3plus_r18-d8_4xb2-80k_cityscapes-512x1024.py",
        {
            "backbone": _RESNET,
            "decode_head": {"in_channels": 32, "channels": 8, "c1_in_channels": 4, "c1_channels": 4},
            "auxiliary_head": {"in_channels": 16, "channels": 8},
        },
    ),
    "upernet_swin": (
        "swin/swin-tiny-patch4-window7-in1k-pre_upernet_8xb2-160k_ade20k-512x512.py",
        {
            "backbone": {"embed_dims": 4, "depths": [1, 1, 1, 1], "num_heads": [1, 1, 2, 2]},
            "decode_head": {"in_channels": WIDTHS, "channels": 8},
            "auxiliary_head": {"in_channels": 16, "channels": 8},
        },
    ),
    "segformer": (
        "segformer/segformer_mit-b0_8xb2-160k_ade20k-512x512.py",
        {
            "backbone": {"embed_dims": 4, "num_layers": [1, 1, 1, 1], "num_heads": [1, 2, 4, 8]},
            "decode_head": {"in_channels": WIDTHS, "channels": 8},
        },
    ),
    "lraspp": (
        "mobilenet_v3/mobilenet-v3-d8-s_lraspp_4xb4-320k_cityscapes-512x1024.py",
        {"decode_head": {"channels": 8, "branch_channels": [4, 8]}},
    ),
    "stdc": (
        "stdc/stdc1_4xb12-80k_cityscapes-512x1024.py",
        {
            "backbone": {
                "backbone_cfg": {"channels": [8, 8, 16, 32, 64]},
                "last_in_channels": [64, 32],
                "out_channels": 8,
                "ffm_cfg": {"in_channels": 24, "out_channels": 16},
            },
            "decode_head": {"in_channels": 16, "channels": 8},
            "auxiliary_head": [
                {"in_channels": 8, "channels": 4},
                {"in_channels": 8, "channels": 4},
                {"in_channels": 16, "channels": 4},
            ],
        },
    ),
    "segmenter": (
        "segmenter/segmenter_vit-t_mask_8xb1-160k_ade20k-512x512.py",
        {
            "backbone": {"img_size": [64, 64], "embed_dims": 8, "num_layers": 2, "num_heads": 2},
            "decode_head": {"in_channels": 8, "channels": 8, "embed_dims": 8, "num_heads": 2},
        },
    ),
    "ocrnet": (
        "ocrnet/ocrnet_hr18s_4xb2-40k_cityscapes-512x1024.py",
        {
            "backbone": _HRNET,
            "decode_head": [
                {"in_channels": WIDTHS, "channels": 60},
                {"in_channels": WIDTHS, "channels": 16, "ocr_channels": 8},
            ],
        },
    ),
    "bisenetv1": (
        "bisenetv1/bisenetv1_r18-d32_4xb4-160k_cityscapes-1024x1024.py",
        {
            "backbone": {
                "context_channels": [8, 16, 32],
                "spatial_channels": [4, 4, 4, 8],
                "out_channels": 16,
                "backbone_cfg": _RESNET,
            },
            "decode_head": {"in_channels": 16, "channels": 8},
            "auxiliary_head": [{"in_channels": 8, "channels": 4}, {"in_channels": 8, "channels": 4}],
        },
    ),
    "cgnet": (
        "cgnet/cgnet_fcn_4xb4-60k_cityscapes-680x680.py",
        {
            "backbone": {"num_channels": [8, 8, 16], "num_blocks": [2, 2]},
            "decode_head": {"in_channels": 32, "channels": 32},
        },
    ),
    "fastfcn": (
        "fastfcn/fastfcn_r50-d32_jpu_psp_4xb2-80k_cityscapes-512x1024.py",
        {
            "backbone": _RESNET,
            "neck": {"in_channels": WIDTHS[1:], "mid_channels": 8},
            "decode_head": {"in_channels": 32, "channels": 8},
            "auxiliary_head": {"in_channels": 16, "channels": 8},
        },
    ),
    "encnet": (
        "encnet/encnet_r50-d8_4xb2-40k_cityscapes-512x1024.py",
        {
            "backbone": _RESNET,
            "decode_head": {"in_channels": WIDTHS[1:], "channels": 8, "num_codes": 4},
            "auxiliary_head": {"in_channels": 16, "channels": 8},
        },
    ),
    "knet": (
        "knet/knet-s3_r50-d8_fcn_8xb2-adamw-80k_ade20k-512x512.py",
        {
            "backbone": _RESNET,
            "decode_head": {
                "kernel_generate_head": {"in_channels": 32, "channels": 8},
                "kernel_update_head": [_SMALL_UPDATE] * 3,
            },
            "auxiliary_head": {"in_channels": 16, "channels": 8},
        },
    ),
    "pointrend": (
        "point_rend/pointrend_r50_4xb2-80k_cityscapes-512x1024.py",
        {
            "backbone": _RESNET,
            "neck": {"in_channels": WIDTHS, "out_channels": 8},
            "decode_head": [{"in_channels": [8] * 4, "channels": 8}, {"in_channels": [8], "channels": 8}],
        },
    ),
    "unet": (
        "unet/unet-s5-d16_fcn_4xb4-40k_drive-64x64.py",
        {
            "backbone": {"base_channels": 4},
            "decode_head": {"in_channels": 4, "channels": 4},
            "auxiliary_head": {"in_channels": 8, "channels": 4},
        },
    ),
}
FAMILIES = tuple(_CHANGES)


def zoo_config(name: str) -> Path:
    """The path of a config of the installed mmsegmentation."""
    import_mmseg()
    import mmseg

    return Path(mmseg.__file__).parent / ".mim" / "configs" / name


def tiny_config(family: str) -> ModelConfig:
    """A published config of a family, with auxiliary heads, in a tiny size."""
    name, changes = _CHANGES[family]
    changed: ModelConfig = _merged(read_model_config(zoo_config(name)), changes)
    return changed


def _merged(value: Any, changes: Any) -> Any:
    if isinstance(value, dict):
        return {**value, **{key: _merged(value.get(key), change) for key, change in changes.items()}}
    if isinstance(value, list) and value and isinstance(value[0], dict):
        return [_merged(item, change) for item, change in zip(value, changes, strict=True)]
    return changes
