"""Rates, and one step of learning: micro-batches, memory that runs out, what is frozen, what is not finite."""

import pytest
import torch
from test_loop import config

from rscd.core.errors import DataError, UsageError
from rscd.model.encoders.sam import MEAN, STD
from rscd.model.network import ChangeNetwork
from rscd.training.data.batches import Batch, Batches
from rscd.training.data.tiles import find_tiles
from rscd.training.learner import Learner, is_low_rank, make_optimiser, prepare_tuning, rate_factor, set_rates
from rscd.training.parallel import Group


def peaks(tiles, tmp_path, **changes):
    options = config(tiles, tmp_path / "m.safetensors", rate=1.0, **changes)
    network = ChangeNetwork("vit_t", 16, MEAN, STD)
    prepare_tuning(network, options)
    optimiser = make_optimiser(network, options)
    of = {id(p): group["peak"] for group in optimiser.param_groups for p in group["params"]}
    return {name: of.get(id(p)) for name, p in network.named_parameters()}, optimiser


def test_the_deeper_a_block_the_lower_its_rate(tiny_tiles, tmp_path):
    found, _ = peaks(tiny_tiles, tmp_path, layer_decay=0.5)
    assert found["msdf.head.1.weight"] == found["encoder.up2.weight"] == 1
    assert found["encoder.vit.neck.0.weight"] == pytest.approx(0.1)
    assert found["encoder.vit.blocks.11.attn.qkv.weight"] == pytest.approx(0.1 * 0.5)
    assert found["encoder.vit.blocks.0.attn.qkv.weight"] == pytest.approx(0.1 * 0.5**12)
    assert found["encoder.vit.pos_embed"] == pytest.approx(0.1 * 0.5**13)


def test_frozen_parameters_are_in_no_group_and_low_rank_parts_learn_at_the_full_rate(tiny_tiles, tmp_path):
    frozen, _ = peaks(tiny_tiles, tmp_path, tune="frozen")
    assert frozen["encoder.vit.pos_embed"] is None
    assert frozen["encoder.up2.weight"] == 1
    lora, _ = peaks(tiny_tiles, tmp_path, tune="lora", layer_decay=0.5)
    assert lora["encoder.vit.blocks.0.attn.qkv.up"] == 1
    assert lora["encoder.vit.blocks.0.attn.qkv.weight"] is None


def test_rates_warm_up_and_fall_along_a_cosine(tiny_tiles, tmp_path):
    course = [rate_factor(step, 200) for step in range(200)]
    assert course[0] == pytest.approx(0.1)
    assert course[9] == course[10] == 1
    assert course[105] == pytest.approx(0.505)
    assert course[-1] == pytest.approx(0.01, abs=1e-3)
    _, optimiser = peaks(tiny_tiles, tmp_path)
    set_rates(optimiser, 105, 200)
    assert sorted(g["lr"] for g in optimiser.param_groups) == pytest.approx([0.0505, 0.505])
    assert isinstance(optimiser, torch.optim.AdamW)


CPU = Group(torch.device("cpu"))


def learner(tiles, notices=None, encoder="vit_t", **changes):
    torch.manual_seed(0)
    network = ChangeNetwork(encoder, 16, MEAN, STD)
    options = config(tiles, tiles / "m.safetensors", encoder=encoder, **({"batch_size": 4} | changes))
    return Learner(network, options, CPU, 20, on_notice=(notices if notices is not None else []).append)


def batches(tiles, count, **changes):
    options = config(tiles, tiles / "m.safetensors", **({"batch_size": 4} | changes))
    return list(Batches(find_tiles([tiles]), options).steps(0, count))


def test_out_of_memory_halves_the_micro_batch_says_so_and_learns_the_same(tiny_tiles):
    def short_of_memory(module, inputs):
        if len(inputs[0]) > 2:
            raise torch.OutOfMemoryError("CUDA out of memory")

    notices = []
    short = learner(tiny_tiles, notices)
    short.network.register_forward_pre_hook(short_of_memory)
    small = learner(tiny_tiles, micro_batch=2)
    for step, batch in enumerate(batches(tiny_tiles, 2)):
        assert short.learn(batch, step) == small.learn(batch, step)
    assert short.micro_batch == 2
    assert len(notices) == 1
    assert "2 crop(s) at a time" in notices[0]
    assert "uses 4" in notices[0]
    for one, other in zip(short.network.parameters(), small.network.parameters(), strict=True):
        assert torch.equal(one, other)


def test_out_of_memory_with_a_single_crop_is_refused_with_a_remedy(tiny_tiles):
    def no_memory(module, inputs):
        raise torch.OutOfMemoryError("CUDA out of memory")

    hopeless = learner(tiny_tiles)
    hopeless.network.register_forward_pre_hook(no_memory)
    with pytest.raises(UsageError, match=r"one crop of 64 px.*checkpointing=True"):
        hopeless.learn(batches(tiny_tiles, 1)[0], 0)


def test_micro_batches_of_any_size_weigh_each_crop_alike(tiny_tiles):
    gradients = []
    for micro in (4, 3, 1):
        made = learner(tiny_tiles, micro_batch=micro, loss="bce")
        made.network.requires_grad_(False)
        made.network.encoder.up4.requires_grad_(True)
        made.network.eval()  # in training, batch norm looks at a micro-batch
        made._gradients(batches(tiny_tiles, 1)[0], 0)
        gradients.append(made.network.encoder.up4[0].weight.grad.clone())
    for other in gradients[1:]:
        assert (other - gradients[0]).norm() < 0.02 * gradients[0].norm()  # bf16 where the CPU has it


def test_a_frozen_encoder_keeps_its_weights_and_its_batch_norm(tiny_tiles):
    made = learner(tiny_tiles, encoder="lite", tune="frozen", rate=0.01)
    before = {k: v.clone() for k, v in made.network.state_dict().items()}
    for step, batch in enumerate(batches(tiny_tiles, 2)):
        made.learn(batch, step)
    changed = {k for k, v in made.network.state_dict().items() if not torch.equal(v, before[k])}
    assert not [k for k in changed if k.startswith("encoder.")]
    assert "msdf.head.1.weight" in changed
    assert "stfe.0.reduce.1.running_mean" in changed


def test_fine_scales_alone_learn_and_the_rest_stays_as_it_is(tiny_tiles):
    torch.manual_seed(0)
    network = ChangeNetwork("lite", 16, MEAN, STD, fine=8, presence=True, ordered=True)
    options = config(tiny_tiles, tiny_tiles / "m.safetensors", encoder="lite", tune="fine", rate=0.01, batch_size=4)
    made = Learner(network, options, CPU, 20)
    before = {k: v.clone() for k, v in made.network.state_dict().items()}
    for step, batch in enumerate(batches(tiny_tiles, 2)):
        made.learn(batch, step)
    changed = {k for k, v in made.network.state_dict().items() if not torch.equal(v, before[k])}
    assert {"fine.head.weight", "fine.join.0.weight", "fine.join.1.running_mean"} <= changed
    assert all(k.startswith("fine.") for k in changed)
    with pytest.raises(UsageError, match="--tune fine: the model has no fine scales"):
        learner(tiny_tiles, encoder="lite", tune="fine")


def test_full_tuning_moves_the_encoder_and_lora_its_low_rank_parts_alone(tiny_tiles):
    for tune in ("full", "lora"):
        made = learner(tiny_tiles, tune=tune, rate=0.01, checkpointing=tune == "lora")
        before = {k: v.clone() for k, v in made.network.named_parameters()}
        for step, batch in enumerate(batches(tiny_tiles, 2)):
            made.learn(batch, step)
        changed = {k for k, v in made.network.named_parameters() if not torch.equal(v, before[k])}
        inside = {k for k in changed if k.startswith("encoder.vit.")}
        assert inside
        assert all(is_low_rank(k) for k in inside) == (tune == "lora")


def test_checkpointing_gives_the_same_gradients(tiny_tiles):
    found = []
    for checkpointing in (False, True):
        made = learner(tiny_tiles, checkpointing=checkpointing)
        assert made.network.encoder._checkpointing == checkpointing
        made.network.train()
        made._gradients(batches(tiny_tiles, 1)[0], 0)
        found.append(made.network.encoder.vit.blocks[0].attn.qkv.weight.grad)
    assert found[0].any()
    torch.testing.assert_close(found[0], found[1])


def test_what_only_sam_encoders_can_do_is_refused_elsewhere(tiny_tiles):
    for changes in ({"tune": "lora"}, {"checkpointing": True}):
        with pytest.raises(UsageError, match="lite does not support"):
            learner(tiny_tiles, encoder="lite", **changes)


def test_the_average_follows_and_is_what_the_last_weights_are_at_zero(tiny_tiles):
    slow, none = learner(tiny_tiles, rate=0.01), learner(tiny_tiles, rate=0.01, ema=0.0)
    start = {k: v.clone() for k, v in slow.average.state_dict().items()}
    for step, batch in enumerate(batches(tiny_tiles, 3)):
        slow.learn(batch, step)
        none.learn(batch, step)
    key = "msdf.head.0.0.weight"
    first, last, mean = start[key], slow.network.state_dict()[key], slow.average.state_dict()[key]
    assert 0 < (mean - last).norm() < (first - last).norm()
    for kept, new in zip(none.average.state_dict().values(), none.network.state_dict().values(), strict=True):
        torch.testing.assert_close(kept, new)


def test_a_loss_that_is_not_finite_names_the_tiles_and_a_remedy(tiny_tiles):
    made = learner(tiny_tiles)
    with torch.no_grad():
        made.network.msdf.head[1].weight.fill_(float("nan"))
    batch = batches(tiny_tiles, 1)[0]
    before = made.network.encoder.up2.weight.clone()
    with pytest.raises(DataError, match="loss is nan at step 7") as caught:
        made.learn(Batch(batch.before, batch.after, batch.label, batch.names), 7)
    assert caught.value.exit_code == 3
    assert "--rate" in str(caught.value)
    assert all(name in str(caught.value) for name in batch.names)
    assert torch.equal(made.network.encoder.up2.weight, before)
