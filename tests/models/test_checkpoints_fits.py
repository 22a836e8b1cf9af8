"""The weights of a network are found in every wrapping, and in exactly one place."""

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch
from torch import nn
from torch.nn.utils import prune
from wrappings import CONTENTS, floats, legacy, named, network, pickled, sharded, swapped, weights, zipped

from seg_transfer.errors import CheckpointError
from seg_transfer.models.checkpoints import load_checkpoint, load_exactly, load_files, shapes_of, weights_for


def read(file: Path, **options: Any) -> dict[str, torch.Tensor]:
    return weights_for(shapes_of(network()), file, **options)


def refusal(file: Path, **options: Any) -> str:
    with pytest.raises(CheckpointError) as caught:
        read(file, **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def assert_read(found: dict[str, torch.Tensor]) -> None:
    """The weights are there bit for bit, in the order of the network and in float32."""
    expected = weights()
    assert [name for name in expected if name in found] == list(found)
    assert set(floats(expected)) <= set(found)
    for name, tensor in found.items():
        assert tensor.dtype == expected[name].dtype
        assert torch.equal(tensor, expected[name])


@pytest.mark.parametrize("write", [zipped, legacy, pickled])
@pytest.mark.parametrize("name", CONTENTS)
def test_every_wrapping_gives_the_same_weights(tmp_path, name, write):
    write(CONTENTS[name](), tmp_path / "net.pth")
    assert_read(read(tmp_path / "net.pth"))


@pytest.mark.parametrize("protocol", range(6))
def test_every_protocol_of_pickle(tmp_path, protocol):
    pickled({"model": weights(), **CONTENTS["mmengine"]()["meta"]}, tmp_path / "net.pkl", protocol)
    assert_read(read(tmp_path / "net.pkl"))


@pytest.mark.parametrize("protocol", range(6))
def test_arrays_of_numpy_are_weights(tmp_path, protocol):
    arrays = {name: tensor.numpy() for name, tensor in weights().items()}
    arrays["backbone.0.weight"] = np.asfortranarray(arrays["backbone.0.weight"])
    arrays["head.bias"] = arrays["head.bias"].astype(">f4")
    (tmp_path / "net.pkl").write_bytes(pickle.dumps({"model": arrays, "author": "x"}, protocol))
    assert_read(read(tmp_path / "net.pkl"))


def test_big_endian_files(tmp_path):
    swapped({"state_dict": floats(weights())}, tmp_path / "net.pth")
    assert_read(read(tmp_path / "net.pth"))


@pytest.mark.parametrize("suffix", [".safetensors", ".pth", ".bin"])
def test_safetensors_whatever_the_name(tmp_path, suffix):
    safetensors.torch.save_file(named("module."), tmp_path / f"net{suffix}")
    assert_read(read(tmp_path / f"net{suffix}"))


@pytest.mark.parametrize("suffix", [".bin", ".pt", ".ckpt", ".tar", ".model", ""])
def test_names_of_files_do_not_matter(tmp_path, suffix):
    zipped({"state_dict": weights()}, tmp_path / f"net{suffix}")
    assert_read(read(tmp_path / f"net{suffix}"))


@pytest.mark.parametrize("as_safetensors", [True, False])
def test_shards(tmp_path, as_safetensors):
    index = tmp_path / "model.index.json"
    sharded(index, as_safetensors=as_safetensors)
    assert_read(read(index))
    parts = sorted(path for path in tmp_path.iterdir() if path != index)
    assert_read(weights_for(shapes_of(network()), parts))
    assert "lacks parameter" in refusal(parts[0])
    with pytest.raises(CheckpointError, match=r"part-0.* both hold .*; remove the one"):
        weights_for(shapes_of(network()), [*parts, *parts])


@pytest.mark.parametrize("name", ["../part-0.bin", "/etc/passwd", "a/../../b"])
def test_an_index_stays_in_its_folder(tmp_path, name):
    (tmp_path / "x.index.json").write_text(f'{{"weight_map": {{"head.bias": "{name}"}}}}')
    assert "must name files of the same folder" in refusal(tmp_path / "x.index.json")


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_other_precisions_become_float32(tmp_path, dtype):
    state = {name: tensor.to(dtype) if tensor.is_floating_point() else tensor for name, tensor in weights().items()}
    zipped(state, tmp_path / "net.pth")
    found = read(tmp_path / "net.pth")
    assert {tensor.dtype for tensor in floats(found).values()} == {torch.float32}
    assert all(torch.equal(found[name], state[name].float()) for name in floats(found))


# One place


def test_several_fits_are_listed_and_one_is_chosen(tmp_path):
    file, other = tmp_path / "net.pth", network(1).state_dict()
    zipped({"state_dict": other, "model_ema": {"module": weights()}}, file)
    assert refusal(file) == (
        f"{file}: holds 2 fits: state_dict (9 of 9), model_ema.module (9 of 9); choose with weights_key: state_dict"
    )
    for key in ("model_ema", "model_ema.module"):
        assert_read(read(file, weights_key=key))
    assert torch.equal(read(file, weights_key="state_dict")["head.bias"], other["head.bias"])
    assert "field weights_key: 'ema' holds no parameter of this network; name one of" in refusal(
        file, weights_key="ema"
    )


def test_the_top_of_a_file_has_a_key(tmp_path):
    zipped({**weights(), "ema": network(1).state_dict()}, tmp_path / "net.pth")
    assert ": holds 2 fits: . (9 of 9), ema (9 of 9);" in refusal(tmp_path / "net.pth")
    assert_read(read(tmp_path / "net.pth", weights_key="."))


def test_a_student_and_a_teacher_in_one_state_dict(tmp_path):
    teacher = {f"teacher.{name}": tensor for name, tensor in network(1).state_dict().items()}
    zipped({"state_dict": {**named("student."), **teacher}}, tmp_path / "net.pth")
    assert "state_dict.student (9 of 9), state_dict.teacher (9 of 9)" in refusal(tmp_path / "net.pth")
    assert_read(read(tmp_path / "net.pth", weights_key="state_dict.student"))


def test_a_part_of_a_network_is_found_in_the_whole(tmp_path):
    zipped({"state_dict": named("module.")}, tmp_path / "net.pth")
    part = network().backbone
    found = weights_for(shapes_of(part), tmp_path / "net.pth")
    assert all(torch.equal(found[name], weights()[f"backbone.{name}"]) for name in found)
    assert len(found) == 7


def test_what_may_be_missing_and_what_may_be_more(tmp_path):
    state = {name: tensor for name, tensor in weights().items() if not name.endswith("num_batches_tracked")}
    index = {"backbone.index": torch.arange(4)}
    zipped({**state, **index, "aux.weight": torch.ones(2)}, tmp_path / "more.pth")
    assert refusal(tmp_path / "more.pth").endswith(
        "more.pth: has unknown parameter aux.weight; name weights of this network"
    )
    assert_read(read(tmp_path / "more.pth", ignored=("aux.*",)))
    del state["head.bias"]
    zipped(state, tmp_path / "less.pth")
    assert "lacks parameter head.bias (found 7 of 9); name weights" in refusal(tmp_path / "less.pth")
    assert_read_without_bias = read(tmp_path / "less.pth", optional=("head.b*",))
    assert "head.bias" not in assert_read_without_bias


# Misfits


def without(name: str) -> dict[str, torch.Tensor]:
    return {key: tensor for key, tensor in weights().items() if key != name}


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (
            {
                "state_dict": named("module.")
                | {"module.head.bias": torch.ones(7), "module.head.weight": torch.ones(7, 6, 1, 1)}
            },
            "classes differ: head.weight has 7 outputs, in the network 4; correct the number of classes",
        ),
        (
            {"m": weights() | {"backbone.0.weight": torch.ones(6, 2, 3, 3)}},
            "backbone.0.weight has shape (6, 2, 3, 3), in the network (6, 3, 3, 3); name weights of this network",
        ),
        ({"state_dict": without("head.bias")}, "lacks parameter head.bias (found 8 of 9 under state_dict)"),
        (
            {"conv1.weights": torch.ones(2), "fc.w": torch.ones(2)},
            "holds no parameter of this network among 2 tensors (conv1.weights, fc.w ...); name weights",
        ),
        ({"epoch": 3}, "holds no weights; expected parameter names with tensors"),
        (
            without("head.bias") | {"head.bias": torch.full((4,), torch.nan)},
            "parameter head.bias holds NaN; the training diverged: name an earlier checkpoint",
        ),
        (
            without("head.bias") | {"head.bias": torch.tensor([1, torch.inf, 0, 0])},
            "parameter head.bias holds infinite values; the training diverged",
        ),
        (
            without("head.bias") | {"head.bias": torch.ones(4).to_sparse()},
            "head.bias is sparse; save the weights as dense tensors of numbers",
        ),
        (
            without("head.bias") | {"head.bias": torch.ones(4, device="meta")},
            "head.bias is without values, of the device meta; save",
        ),
    ],
)
def test_the_first_thing_that_is_wrong_is_named(tmp_path, content, reason):
    zipped(content, tmp_path / "net.pth")
    assert refusal(tmp_path / "net.pth").startswith(f"{tmp_path / 'net.pth'}: {reason}")


@pytest.mark.filterwarnings("ignore::FutureWarning")
@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (nn.utils.weight_norm, "head.weight is stored as head.weight_g by weight_norm; apply torch.nn.utils.remove"),
        (nn.utils.parametrizations.weight_norm, "head.weight is stored as head.parametrizations.weight; apply"),
        (nn.utils.spectral_norm, "head.weight is stored as head.weight_orig by pruning or spectral_norm; apply"),
        (
            lambda head: prune.random_unstructured(head, "weight", 0.5),
            "head.weight is stored as head.weight_orig",
        ),
    ],
)
def test_reparameterized_weights_are_named(tmp_path, change, reason):
    tiny = network()
    change(tiny.head)
    zipped(tiny.state_dict(), tmp_path / "net.pth")
    assert reason in refusal(tmp_path / "net.pth")


@pytest.mark.filterwarnings("ignore:torch.quantize_per_tensor")
def test_quantized_weights_are_named(tmp_path):
    quantized = torch.quantize_per_tensor(torch.ones(4), 0.1, 0, torch.qint8)
    zipped(without("head.bias") | {"head.bias": quantized}, tmp_path / "net.pth")
    assert "head.bias is quantized; save the weights as dense tensors of numbers" in refusal(tmp_path / "net.pth")


def test_a_mask_of_attention_may_be_infinite(tmp_path):
    mask = torch.zeros(3).fill_(-torch.inf)
    zipped({"mask": mask}, tmp_path / "net.pth")
    assert torch.equal(weights_for({"mask": (3,)}, tmp_path / "net.pth")["mask"], mask)


# Networks


def test_a_network_is_loaded_or_left_as_it_is(tmp_path):
    zipped({"ema": weights()}, tmp_path / "net.pth")
    tiny, image = network(1), torch.rand(1, 3, 8, 8)
    load_files(tiny.eval(), tmp_path / "net.pth")
    assert torch.equal(tiny(image), network().eval()(image))
    with pytest.raises(CheckpointError, match="classes differ"):
        load_exactly(tiny, weights() | {"head.bias": torch.ones(5), "head.weight": torch.ones(5, 6, 1, 1)}, "net.pth")
    load_exactly(tiny, named("module."), "net.pth")
    assert torch.equal(tiny(image), network().eval()(image))


@pytest.mark.parametrize(
    "name", [name for name in CONTENTS if name not in {"nested", "parts", "training state", "Lightning"}]
)
def test_without_a_network_the_only_state_dict_is_read(tmp_path, name):
    zipped(CONTENTS[name](), tmp_path / "net.pth")
    found = load_checkpoint(tmp_path / "net.pth")
    assert {key.rpartition("_orig_mod.")[2] for key in found} >= set(floats(weights()))


def test_without_a_network_several_state_dicts_are_listed(tmp_path):
    zipped({"generator": weights(), "critic": {"w": torch.ones(1)}, "optimizer": None}, tmp_path / "net.pth")
    with pytest.raises(CheckpointError, match=r"net.pth: holds several state dicts \(critic, generator\); save"):
        load_checkpoint(tmp_path / "net.pth")
