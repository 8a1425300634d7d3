import pytest
import torch

from rscd.core.errors import UsageError
from rscd.training.data.tiles import IGNORED
from rscd.training.losses import CemOptions, bce, cem, cem_mask, dice, focal, make_loss, ohem, presence_loss

# p:            0.9  0.5  0.1  0.01 | 0.9  0.5  0.1  0.01
P = torch.tensor([[0.9, 0.5, 0.1, 0.01, 0.9, 0.5, 0.1, 0.01]])
LOGITS = torch.logit(P)[None]
CHANGED = torch.tensor([[[1.0, 1, 1, 1, 0, 0, 0, 0]]])
NO_FLOOR = CemOptions(tau=0.2, floor=0, warmup_steps=0)


def test_cem_masks_easy_unchanged_pixels_and_no_changed_one():
    kept = cem_mask(LOGITS, CHANGED, NO_FLOOR, step=0)
    assert kept[0, 0].tolist() == [True, True, True, True, True, True, False, False]


def test_no_changed_pixel_ever_goes():
    torch.manual_seed(1)
    logits, changed = 6 * torch.randn(2, 40, 40), (torch.rand(2, 40, 40) < 0.3).float()
    for tau in (0.01, 0.5, 1.0):
        for floor in (0.0, 0.5):
            for step in (0, 7):
                kept = cem_mask(logits, changed, CemOptions(tau=tau, floor=floor, warmup_steps=0), step)
                assert kept[changed == 1].all()
                assert not kept[changed == 0].all()


def test_masked_pixels_get_no_gradient():
    logits = LOGITS.clone().requires_grad_()
    cem(logits, CHANGED, 0, NO_FLOOR).backward()
    assert (logits.grad[0, 0] != 0).tolist() == [True] * 6 + [False] * 2


def test_tau_zero_is_plain_cross_entropy():
    logits = torch.randn(2, 9, 9, requires_grad=True)
    changed = (torch.rand(2, 9, 9) > 0.7).float()
    ours = torch.autograd.grad(cem(logits, changed, 5, CemOptions(tau=0, floor=0, warmup_steps=0)), logits)[0]
    plain = torch.autograd.grad(bce(logits, changed), logits)[0]
    torch.testing.assert_close(ours, plain)


def test_floor_keeps_its_share_and_repeats_by_step():
    logits, changed = torch.full((1, 200, 200), -5.0), torch.zeros(1, 200, 200)
    options = CemOptions(tau=0.2, floor=0.3, warmup_steps=0)
    kept = cem_mask(logits, changed, options, step=4)
    assert 0.28 < kept.float().mean() < 0.32
    assert torch.equal(kept, cem_mask(logits, changed, options, step=4))
    assert not torch.equal(kept, cem_mask(logits, changed, options, step=5))


def test_warm_up_is_plain_cross_entropy():
    options = CemOptions(tau=0.2, floor=0, warmup_steps=10)
    assert cem(LOGITS, CHANGED, 9, options) == bce(LOGITS, CHANGED)
    assert cem(LOGITS, CHANGED, 10, options) > bce(LOGITS, CHANGED)


def test_normalisation_by_kept_or_by_all_pixels():
    every = CemOptions(tau=0.2, floor=0, warmup_steps=0, normalise="all")
    kept, all_pixels = cem(LOGITS, CHANGED, 0, NO_FLOOR), cem(LOGITS, CHANGED, 0, every)
    torch.testing.assert_close(all_pixels, kept * 6 / 8)


def test_focal_ohem_and_dice_mean_what_they_say():
    entropy = torch.nn.functional.binary_cross_entropy_with_logits(LOGITS, CHANGED, reduction="none")
    torch.testing.assert_close(focal(LOGITS, CHANGED, gamma=0.0), entropy.mean())
    assert focal(LOGITS, CHANGED) < entropy.mean()
    torch.testing.assert_close(ohem(LOGITS, CHANGED, share=0.25), entropy.flatten().sort().values[-2:].mean())
    perfect = (CHANGED * 2 - 1) * 50
    assert dice(perfect, CHANGED) < 1e-6
    assert dice(-perfect, CHANGED) > 0.7


def test_sums_are_sums_and_other_names_are_refused():
    both = make_loss("cem+dice", NO_FLOOR)(LOGITS, CHANGED, 0)
    torch.testing.assert_close(both, cem(LOGITS, CHANGED, 0, NO_FLOOR) + dice(LOGITS, CHANGED))
    with pytest.raises(UsageError, match="hinge"):
        make_loss("hinge", NO_FLOOR)


@pytest.mark.parametrize("name", ["cem", "bce", "focal", "ohem", "dice", "edge", "cem+dice", "cem+edge"])
@pytest.mark.parametrize("step", [0, 500])
def test_ignored_pixels_count_nowhere(name, step):
    options = CemOptions(tau=0.2, floor=0, warmup_steps=100)
    loss = make_loss(name, options)
    label = CHANGED.to(torch.uint8)
    alone = loss(LOGITS, label, step)
    # the same pixels beside others, wrong and right, that are not to be judged
    logits = torch.cat([LOGITS, torch.tensor([[[9.0, -9, 0, 3]]])], dim=2).requires_grad_()
    beside = loss(logits, torch.cat([label, torch.full((1, 1, 4), IGNORED, dtype=torch.uint8)], dim=2), step)
    torch.testing.assert_close(beside, alone)
    beside.backward()
    assert (logits.grad[0, 0, 8:] == 0).all()
    assert (logits.grad[0, 0, :8] != 0).any()


def test_edge_judges_the_surroundings_of_edges_alone():
    label = torch.zeros(1, 20, 20, dtype=torch.uint8)
    label[:, 8:, :] = 1
    label[:, :, 17:] = IGNORED
    logits = torch.randn(1, 20, 20, requires_grad=True)
    make_loss("edge", NO_FLOOR)(logits, label, 0).backward()
    moved = logits.grad[0] != 0
    assert moved[6:10, :17].all()
    assert not moved[:6].any()
    assert not moved[10:].any()
    assert not moved[:, 17:].any()


def test_edge_of_a_crop_without_change_adds_nothing():
    label = torch.zeros(1, 20, 20, dtype=torch.uint8)
    logits = torch.randn(1, 20, 20)
    torch.testing.assert_close(
        make_loss("cem+edge", NO_FLOOR)(logits, label, 0), make_loss("cem", NO_FLOOR)(logits, label, 0)
    )


def test_a_batch_without_a_judged_pixel_moves_nothing():
    logits = LOGITS.clone().requires_grad_()
    nothing = make_loss("cem+dice", NO_FLOOR)(logits, torch.full_like(LOGITS, IGNORED).to(torch.uint8), 0)
    nothing.backward()
    assert nothing == 0
    assert (logits.grad == 0).all()


def test_presence_may_differ_where_nothing_changed_if_both_dates_are_known():
    """Beside an unchanged building whose dates are displaced, one date shows roof and the other ground."""
    label = torch.zeros(1, 4, 4, dtype=torch.uint8)
    built = torch.zeros(1, 2, 4, 4, dtype=torch.uint8)
    built[0, 0, :2] = 1
    right = torch.where(built > 0, 9.0, -9.0)
    equal = right[:, [0, 0]]
    assert presence_loss(right, label, built) < 0.01 < presence_loss(equal, label, built)
    unknown = torch.full_like(built, IGNORED)
    assert presence_loss(equal, label, unknown) < 0.01 < presence_loss(right, label, unknown)
    half = torch.stack([built[:, 0], unknown[:, 1]], 1)  # one date alone: the change label tells the other
    assert presence_loss(equal, label, half) < 0.01 < presence_loss(right, label, half)
