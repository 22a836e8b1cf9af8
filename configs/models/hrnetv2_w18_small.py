"""HRNetV2-W18-small (version 2) for machines without a GPU: the same linear classifier, 270 channels at stride 4."""

_base_ = "hrnetv2_w48.py"

branches = (18, 36, 72, 144)

model = dict(
    backbone=dict(
        extra=dict(
            stage1=dict(num_blocks=(2,)),
            stage2=dict(num_blocks=(2,) * 2, num_channels=branches[:2]),
            stage3=dict(num_modules=3, num_blocks=(2,) * 3, num_channels=branches[:3]),
            stage4=dict(num_modules=2, num_blocks=(2,) * 4, num_channels=branches),
        ),
    ),
    decode_head=dict(in_channels=list(branches), channels=sum(branches)),
)
