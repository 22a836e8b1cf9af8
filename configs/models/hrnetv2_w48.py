"""HRNetV2-W48 with a purely linear classifier on the concatenation of its four branches, 720 channels at stride 4.

The source architecture of the GBC paper (Pandy et al., CVPR 2022; the network: Wang et al., TPAMI 2020).
`num_classes` and the normalization are set from the dataset's manifest when a network is built.
"""

norm_cfg = dict(type="BN", requires_grad=True)
branches = (48, 96, 192, 384)

model = dict(
    type="EncoderDecoder",
    data_preprocessor=dict(type="SegDataPreProcessor", bgr_to_rgb=True, pad_val=0, seg_pad_val=255),
    backbone=dict(
        type="HRNet",
        norm_cfg=norm_cfg,
        norm_eval=False,
        extra=dict(
            stage1=dict(num_modules=1, num_branches=1, block="BOTTLENECK", num_blocks=(4,), num_channels=(64,)),
            stage2=dict(num_modules=1, num_branches=2, block="BASIC", num_blocks=(4,) * 2, num_channels=branches[:2]),
            stage3=dict(num_modules=4, num_branches=3, block="BASIC", num_blocks=(4,) * 3, num_channels=branches[:3]),
            stage4=dict(num_modules=3, num_branches=4, block="BASIC", num_blocks=(4,) * 4, num_channels=branches),
        ),
    ),
    decode_head=dict(
        type="FCNHead",
        in_channels=list(branches),
        in_index=(0, 1, 2, 3),
        input_transform="resize_concat",
        channels=sum(branches),
        kernel_size=1,
        num_convs=0,
        concat_input=False,
        dropout_ratio=0,
        num_classes=19,
        norm_cfg=norm_cfg,
        align_corners=False,
        # Without avg_non_ignore, ignored pixels would count in the mean and dilute the loss.
        loss_decode=dict(type="CrossEntropyLoss", use_sigmoid=False, loss_weight=1.0, avg_non_ignore=True),
    ),
    train_cfg=dict(),
    test_cfg=dict(mode="whole"),
)
