"""Reading weights out of any checkpoint file without running anything of it.

A file is opened by what it contains (`opened`): safetensors, or what ``torch.save`` wrote (`torch_files`), whose pickle
is interpreted into inert records (`inert`, `stored`, `arrays`). Among the records, `state_dicts` finds those that have
a network's names, and `misfits` says what was found where none fits. `models.checkpoints` is the door.
"""
