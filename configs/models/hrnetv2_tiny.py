"""A tiny HRNetV2 for demonstrations: four equally wide branches, the same classifier, 64 channels at stride 4."""

_base_ = "hrnetv2_w48.py"

branches = (16, 16, 16, 16)

model = dict(
    backbone=dict(
        extra=dict(
            stage1=dict(num_blocks=(1,), num_channels=(16,)),
            stage2=dict(num_blocks=(1,) * 2, num_channels=branches[:2]),
            stage3=dict(num_modules=1, num_blocks=(1,) * 3, num_channels=branches[:3]),
            stage4=dict(num_modules=1, num_blocks=(1,) * 4, num_channels=branches),
        ),
    ),
    decode_head=dict(in_channels=list(branches), channels=sum(branches)),
)
