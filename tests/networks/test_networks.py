"""Networks compute the authors' numbers, and members cost nothing at inference."""

import json
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from places import TESTS
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode

from mixmo_fast.mixing.block import mix_features, render_masks
from mixmo_fast.networks.init import TRUNCATED_STD, initialize, small_normal_, truncated_he_normal_
from mixmo_fast.networks.multi import MixMo
from mixmo_fast.networks.norm import BatchNorm, batch_counters, count_batch
from mixmo_fast.networks.preact_resnet import preact_resnet18
from mixmo_fast.networks.reference_names import (
    from_reference,
    from_reference_name,
    to_reference,
    to_reference_name,
)
from mixmo_fast.networks.wide_resnet import wide_resnet

GOLDEN = json.loads((TESTS / "golden" / "networks.json").read_text())


def case_name(case):
    return f"{case['arch']}-{case['depth']}-{case['width']}x{case['members']}"


golden_cases = pytest.mark.parametrize("case", GOLDEN, ids=case_name)


def build(case):
    if case["arch"].startswith("wideresnet"):
        return wide_resnet(case["depth"], case["width"], case["members"], case["classes"])
    return preact_resnet18(case["width"], case["members"], case["classes"])


def golden_network(case):
    """Our network in float64, filled by the golden rule: entry k in the authors' order."""
    network = build(case).double()
    with torch.no_grad():
        for k, (name, entry) in enumerate(to_reference(network.state_dict(), case["members"]).items()):
            if name.endswith("num_batches_tracked"):
                continue
            j = torch.arange(entry.numel(), dtype=torch.float64)
            wave = torch.sin(0.1 * j + k).reshape(entry.shape)
            if name.endswith("running_var"):
                value = 1 + 0.5 * wave**2
            elif name.endswith("running_mean"):
                value = 0.1 * wave
            elif name.endswith("bias"):
                value = 0.05 * wave
            elif entry.ndim == 1:
                value = 1 + 0.1 * wave
            else:
                value = math.sqrt(2 / entry[0].numel()) * wave
            entry.copy_(value)
    return network


def test_a_batch_norm_is_torchs_but_for_its_count():
    ours, torchs = BatchNorm(5), torch.nn.BatchNorm2d(5)
    for training in (True, False):
        images = torch.randn(4, 5, 3, 3)
        assert torch.equal(ours.train(training)(images), torchs.train(training)(images))
    assert ours.num_batches_tracked == 0
    count_batch(batch_counters(ours))
    for name, value in torchs.state_dict().items():
        assert torch.equal(ours.state_dict()[name], value), name


def golden_images(case):
    shape = (case["batch"], 3 * case["members"], case["image_size"], case["image_size"])
    return torch.sin(0.01 * torch.arange(math.prod(shape), dtype=torch.float64)).reshape(shape)


def golden_masks(case, side):
    """Dense masks on the map behind the stem, or None for one member."""
    rows, members = case["batch"], case["members"]
    if members == 1:
        return None
    masks = torch.zeros(rows, members, side, side)
    if members == 2:
        for r in range(rows):
            masks[r, 0, r : r + side // 2, 2 * r : 2 * r + side // 3] = 1
        masks[-1, 0] = 0.3
        masks[:, 1] = 1 - masks[:, 0]
    else:
        masks += torch.tensor([1 / 6, 2 / 6, 3 / 6])[:, None, None]
    return masks


def golden_targets(case):
    rows, members, classes = case["batch"], case["members"], case["classes"]
    targets = torch.zeros(rows, members, classes, dtype=torch.float64)
    for r in range(rows):
        for i in range(members):
            targets[r, i, (r + i) % classes] += 0.7 * (1 + 0.1 * i)
            targets[r, i, (r + 3 * i + 1) % classes] += 0.3 * (1 + 0.1 * i)
    return targets


def assert_close(ours, expected):
    """Within 1e-9 of the largest expected magnitude."""
    expected = torch.as_tensor(expected, dtype=torch.float64)
    error = (ours - expected).abs().max().item()
    assert error <= 1e-9 * expected.abs().max().item()


@golden_cases
def test_state_dict_has_the_authors_entries_in_their_order(case):
    network = build(case)
    ours = to_reference(network.state_dict(), case["members"])
    assert [[name, list(entry.shape)] for name, entry in ours.items()] == case["state_dict"]
    assert sum(p.numel() for p in network.parameters()) == case["parameters"]


@golden_cases
def test_evaluation_logits_equal_the_authors(case):
    network = golden_network(case).eval()
    with torch.no_grad():
        logits = network(golden_images(case)[:, :3])
    assert_close(logits.transpose(0, 1), case["eval_member_logits"])
    assert_close(logits.mean(dim=1), case["eval_logits"])


@golden_cases
def test_training_logits_loss_and_gradients_equal_the_authors(case):
    network = golden_network(case).train()
    side = case["image_size"] // network.stem_stride
    logits = network(golden_images(case), golden_masks(case, side))
    assert_close(logits.detach().transpose(0, 1), case["train_member_logits"])

    cross_entropy = -(golden_targets(case) * logits.log_softmax(dim=2)).sum(dim=(1, 2)).mean()
    squares = sum(p.square().sum() for p in network.parameters())
    loss = cross_entropy + 3e-4 * squares
    assert cross_entropy.item() == pytest.approx(case["train_cross_entropy"], rel=1e-9)
    assert squares.item() == pytest.approx(case["sum_squared_parameters"], rel=1e-9)
    assert loss.item() == pytest.approx(case["train_loss_with_l2_3e-4"], rel=1e-9)

    loss.backward()
    norms = {
        to_reference_name(name, case["members"]): parameter.grad.norm().item()
        for name, parameter in network.named_parameters()
    }
    assert norms.keys() == case["grad_norms"].keys()
    for name, norm in norms.items():
        assert norm == pytest.approx(case["grad_norms"][name], rel=1e-9), name


@pytest.mark.parametrize(
    ("members", "classes", "parameters"),
    [(1, 100, 36_536_884), (2, 100, 36_601_416), (1, 10, 36_479_194), (2, 10, 36_486_036)],
)
def test_wide_resnet_28_10_has_the_published_number_of_parameters(members, classes, parameters):
    with torch.device("meta"):
        network = wide_resnet(28, 10, members, classes)
    assert sum(p.numel() for p in network.parameters()) == parameters


@pytest.mark.parametrize(
    ("width", "members", "parameters"),
    [
        (1, 1, 11_268_616),
        (1, 2, 11_372_944),
        (2, 1, 44_784_648),
        (2, 2, 44_991_376),
        (3, 1, 100_537_864),
        (3, 2, 100_846_992),
    ],
)
def test_preact_resnet18_has_the_published_number_of_parameters(width, members, parameters):
    with torch.device("meta"):
        network = preact_resnet18(width, members, 200)
    assert sum(p.numel() for p in network.parameters()) == parameters


def multiply_adds(network, side):
    with FlopCounterMode(display=False) as counter:
        network(torch.empty(1, 3, side, side, device="meta"))
    return counter.get_total_flops() / 2


@pytest.mark.parametrize(
    ("kind", "width", "side", "expected"),
    [("wide", 10, 32, 5.95e9), ("preact", 1, 64, 0.556e9), ("preact", 2, 64, 2.149e9), ("preact", 3, 64, 4.771e9)],
)
def test_one_row_costs_the_known_number_of_multiply_adds(kind, width, side, expected):
    with torch.device("meta"):
        network = wide_resnet(28, width, 1, 100) if kind == "wide" else preact_resnet18(width, 1, 200)
    assert multiply_adds(network.eval(), side) == pytest.approx(expected, rel=1e-3)


def test_a_shared_image_costs_many_members_no_more_than_one_outside_the_heads():
    with torch.device("meta"):
        one, three = wide_resnet(16, 2, 1, 10).eval(), wide_resnet(16, 2, 3, 10).eval()
    one_head = one.heads[0].weight.numel()
    assert multiply_adds(three, 32) - 3 * one_head == multiply_adds(one, 32) - one_head


class CountConvolutions(TorchDispatchMode):
    """Counts the convolutions that really run, whoever calls them."""

    def __init__(self):
        super().__init__()
        self.stem = self.total = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if func is torch.ops.aten.convolution.default:
            self.total += 1
            self.stem += args[0].shape[1] == 3
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("members", [1, 2, 4])
def test_encoders_fold_into_one_convolution(members):
    network = wide_resnet(10, 1, members, 10).eval()
    with torch.no_grad(), CountConvolutions() as shared:
        network(torch.zeros(2, 3, 32, 32))
    assert shared.stem == 1
    assert shared.total == 1 + 3 * 2 + 2  # stem, three blocks of two, two shortcuts
    with torch.no_grad(), CountConvolutions() as mixed:
        network(torch.zeros(2, 3 * members, 32, 32), torch.full((2, members, 1, 1), 1 / members))
    assert mixed.stem == members


@pytest.mark.parametrize("members", [1, 2, 3, 4])
@pytest.mark.parametrize("kind", ["wide", "preact"])
def test_shared_image_call_equals_equal_masks_over_copies_of_the_image(kind, members):
    build_network = wide_resnet if kind == "wide" else lambda _, *rest: preact_resnet18(*rest)
    network = build_network(10, 1, members, 7).double().eval()
    images = torch.randn(2, 3, 32, 32, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    masks = torch.full((2, members, 1, 1), 1 / members, dtype=torch.float64)
    with torch.no_grad():
        folded = network(images)
        explicit = network(images.repeat(1, members, 1, 1), masks)
        stems = torch.stack([encoder(images) for encoder in network.encoders])
        torch.testing.assert_close(network._encode_shared(images), stems.sum(dim=0), rtol=0, atol=1e-12)
    assert folded.shape == (2, members, 7)
    assert (folded - explicit).abs().max() <= 1e-12 * explicit.abs().max()


def test_each_member_reads_its_own_channels_and_its_own_mask():
    network = wide_resnet(10, 1, 2, 5).double().eval()
    images = torch.randn(2, 6, 16, 16, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    first_only = torch.tensor([1.0, 0.0]).expand(2, 2).reshape(2, 2, 1, 1)
    other_second_image = images.clone()
    other_second_image[:, 3:] += 1
    with torch.no_grad():
        logits = network(images, first_only)
        assert torch.equal(network(other_second_image, first_only), logits)
        assert not torch.equal(network(other_second_image, 1 - first_only), logits)
        stem = 2 * network.encoders[0](images[:, :3])
        features = network.trunk(stem)
        heads = torch.stack([head(features) for head in network.heads], dim=1)
    torch.testing.assert_close(logits, heads, rtol=1e-12, atol=1e-12)


def test_gradients_of_the_folded_call_reach_every_member():
    network = wide_resnet(10, 1, 3, 5)
    network(torch.randn(4, 3, 16, 16, generator=torch.Generator().manual_seed(2))).square().sum().backward()
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None and parameter.grad.abs().sum() > 0, name


def test_networks_expose_what_the_planner_needs():
    wide, preact = wide_resnet(10, 1, 2, 5), preact_resnet18(1, 3, 4)
    assert (wide.members, wide.classes, wide.stem_stride) == (2, 5, 1)
    assert (preact.members, preact.classes, preact.stem_stride) == (3, 4, 2)


def test_preact_resnet_takes_sides_other_than_64():
    network = preact_resnet18(1, 1, 4).eval()
    with torch.no_grad():
        assert network(torch.zeros(1, 3, 96, 96)).shape == (1, 1, 4)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: wide_resnet(12, 1, 1, 10), "6n \\+ 4"),
        (lambda: wide_resnet(4, 1, 1, 10), "6n \\+ 4"),
        (lambda: wide_resnet(10, 0, 1, 10), "width"),
        (lambda: wide_resnet(10, 1, 0, 10), "members"),
        (lambda: preact_resnet18(0, 1, 10), "width"),
        (lambda: preact_resnet18(1, 1, 0), "classes"),
        (lambda: wide_resnet(10, 1, 2, 10)(torch.zeros(1, 6, 16, 16)), "without masks .* N x 3 x H x W"),
        (lambda: wide_resnet(10, 1, 2, 10)(torch.zeros(1, 3, 16, 16), torch.ones(1, 2, 1, 1)), "N x 6 x H x W"),
        (lambda: wide_resnet(10, 1, 2, 10)(torch.zeros(1, 6, 16, 16), torch.ones(1, 3, 1, 1)), "N x 2 x H x W"),
        (lambda: wide_resnet(10, 1, 1, 10)(torch.zeros(2, 3, 18, 18)), "4 divides, found 18 x 18"),
    ],
)
def test_what_does_not_fit_is_refused_with_the_reason(call, message):
    with pytest.raises(ValueError, match=message):
        call()


@pytest.mark.parametrize("masks_per_pixel", [True, False])
def test_mixing_equals_its_definition_in_every_memory_format(masks_per_pixel):
    generator = torch.Generator().manual_seed(3)
    features = [torch.randn(5, 6, 8, 10, generator=generator) for _ in range(3)]
    masks = torch.rand(5, 3, *((8, 10) if masks_per_pixel else (1, 1)), generator=generator)
    expected = 3 * sum(masks[:, [m]].double() * features[m].double() for m in range(3))
    for memory_format in (torch.contiguous_format, torch.channels_last):
        mixed = mix_features([f.contiguous(memory_format=memory_format) for f in features], masks)
        assert mixed.is_contiguous(memory_format=memory_format)
        torch.testing.assert_close(mixed.double(), expected, rtol=1e-6, atol=1e-5)


def test_mixing_rounds_low_precision_features_once():
    generator = torch.Generator().manual_seed(4)
    features = [torch.randn(4, 8, 6, 6, generator=generator).bfloat16() for _ in range(2)]
    masks = torch.rand(4, 2, 6, 6, generator=generator)
    exact = 2 * sum(masks[:, [m]].double() * features[m].double() for m in range(2))
    mixed = mix_features(features, masks)
    assert mixed.dtype == torch.bfloat16
    # Half a unit in the last of bfloat16's 8 bits, and float32's own error where the two terms cancel.
    assert ((mixed.double() - exact).abs() <= exact.abs() * 2.0**-8 + 1e-6).all()


def test_masks_may_differ_between_channels():
    features = [torch.ones(2, 4, 3, 3), torch.full((2, 4, 3, 3), 10.0)]
    first = torch.tensor([1.0, 1.0, 0.0, 0.0])[:, None, None].expand(2, 4, 3, 3)
    mixed = mix_features(features, torch.stack([first, 1 - first], dim=1))
    assert mixed[0, :, 0, 0].tolist() == [2.0, 2.0, 20.0, 20.0]


def test_mixing_scales_each_members_gradient_by_its_mask():
    features = [torch.zeros(1, 2, 2, 2, requires_grad=True) for _ in range(2)]
    masks = torch.tensor([0.25, 0.75]).reshape(1, 2, 1, 1)
    mix_features(features, masks).sum().backward()
    assert (features[0].grad == 0.5).all() and (features[1].grad == 1.5).all()


def test_network_trains_in_autocast_with_float32_masks():
    network = wide_resnet(10, 1, 2, 5).to(memory_format=torch.channels_last)
    images = torch.randn(4, 6, 16, 16).to(memory_format=torch.channels_last)
    masks = torch.full((4, 2, 16, 16), 0.5)
    seen = []
    network.trunk.register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    with torch.autocast("cpu", torch.bfloat16):
        logits = network(images, masks)
        shared = network(images[:, :3].contiguous(memory_format=torch.channels_last))
    assert logits.dtype == shared.dtype == torch.bfloat16
    for stem in seen:
        assert stem.dtype == torch.bfloat16
        assert stem.is_contiguous(memory_format=torch.channels_last)
    logits.float().square().sum().backward()
    assert all(p.grad is not None and p.grad.dtype == torch.float32 for p in network.parameters())


def test_step_traces_into_one_graph_without_breaks():
    network = wide_resnet(10, 1, 2, 5)

    def forward(images, box, values):
        masks = render_masks(box, values, 16, 16)
        return network(images, masks)

    images = torch.randn(4, 6, 16, 16, generator=torch.Generator().manual_seed(5))
    box = torch.tensor([[0, 8, 4, 12]] * 4)
    values = torch.tensor([[1.0, 0.0], [0.0, 1.0]]).expand(4, 2, 2)
    network.eval()
    with torch.no_grad():
        traced = torch.compile(forward, backend="eager", fullgraph=True)(images, box, values)
        torch.testing.assert_close(traced, forward(images, box, values))
        traced_shared = torch.compile(network, backend="eager", fullgraph=True)(images[:, :3])
        torch.testing.assert_close(traced_shared, network(images[:, :3]))


@settings(max_examples=60)
@given(
    data=st.data(), rows=st.integers(1, 3), members=st.integers(1, 4), height=st.integers(1, 7), width=st.integers(1, 7)
)
def test_masks_equal_a_slow_loop_over_pixels(data, rows, members, height, width):
    corner = st.tuples(*(st.integers(0, top) for top in (height, height, width, width)))
    box = torch.tensor(data.draw(st.lists(corner, min_size=rows, max_size=rows)))
    value = st.floats(0, 1, width=32)
    count = rows * members * 2
    values = torch.tensor(data.draw(st.lists(value, min_size=count, max_size=count))).reshape(rows, members, 2)
    masks = render_masks(box, values, height, width)
    assert masks.shape == (rows, members, height, width)
    assert masks.dtype == torch.float32
    for r in range(rows):
        y0, y1, x0, x1 = box[r].tolist()
        for y in range(height):
            for x in range(width):
                outside = int(not (y0 <= y < y1 and x0 <= x < x1))
                assert torch.equal(masks[r, :, y, x], values[r, :, outside])


def test_truncated_he_normal_keeps_its_standard_deviation_within_its_bounds():
    weight = torch.empty(512, 64, 3, 3)
    truncated_he_normal_(weight, torch.Generator().manual_seed(6))
    std = math.sqrt(2 / (64 * 9))
    count = weight.numel()
    assert weight.std().item() == pytest.approx(std, rel=5 / math.sqrt(count))  # 5 sigma or more
    assert abs(weight.mean().item()) < 5 * std / math.sqrt(count)
    bound = 2 * std / TRUNCATED_STD
    assert 0.999 * bound < weight.abs().max().item() <= bound * (1 + 1e-6)


def test_truncated_standard_deviation_is_that_of_a_normal_cut_at_two():
    density = math.exp(-2) / math.sqrt(2 * math.pi)
    variance = 1 - 4 * density / math.erf(math.sqrt(2))
    assert math.sqrt(variance) == pytest.approx(TRUNCATED_STD, rel=1e-9)


@pytest.mark.parametrize(("kind", "head_std"), [("wide", math.sqrt(2 / 256)), ("preact", 0.01)])
def test_fresh_networks_have_the_recipes_parameters(kind, head_std):
    network = wide_resnet(10, 4, 2, 200) if kind == "wide" else preact_resnet18(1, 2, 200)
    for name, module in network.named_modules():
        if isinstance(module, nn.Conv2d):
            std = math.sqrt(2 / module.weight[0].numel())
            assert module.weight.std().item() == pytest.approx(std, rel=0.15), name
            assert module.weight.abs().max().item() <= 2.0001 * std / TRUNCATED_STD, name
        elif isinstance(module, nn.BatchNorm2d):
            assert (module.weight == 1).all() and (module.bias == 0).all(), name
        elif isinstance(module, nn.Linear):
            assert module.weight.std().item() == pytest.approx(head_std, rel=0.05), name
            assert (module.bias == 0).all(), name


def test_a_generator_decides_every_weight():
    networks = [wide_resnet(10, 1, 2, 5, torch.Generator().manual_seed(seed)) for seed in (7, 7, 8)]
    first, again, other = (torch.cat([p.flatten() for p in n.parameters()]) for n in networks)
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert not torch.equal(networks[0].encoders[0].weight, networks[0].encoders[1].weight)


def test_a_module_without_a_recipe_is_not_left_with_torchs_weights():
    with pytest.raises(ValueError, match="LayerNorm"):
        initialize(nn.Sequential(nn.LayerNorm(3)), small_normal_)


@golden_cases
def test_names_map_one_to_one_and_back(case):
    theirs = [name for name, _ in case["state_dict"]]
    ours = [from_reference_name(name) for name in theirs]
    assert len(set(ours)) == len(theirs)
    assert [to_reference_name(name, case["members"]) for name in ours] == theirs


def test_a_state_dict_of_the_authors_loads_strictly_and_shares_its_tensors():
    case = GOLDEN[1]
    theirs = {name: torch.full(shape, float(k)) for k, (name, shape) in enumerate(case["state_dict"])}
    network = build(case)
    network.load_state_dict(from_reference(theirs), strict=True)
    back = to_reference(network.state_dict(), case["members"])
    assert list(back) == list(theirs)
    assert all(torch.equal(back[name].double(), theirs[name].double()) for name in theirs)
    assert from_reference(theirs)["encoders.0.weight"] is theirs["list_conv1.0.weight"]


@pytest.mark.parametrize("name", ["module.conv1.weight", "layer5.0.conv1.weight", "layer", "", "convert.weight"])
def test_names_the_authors_do_not_use_are_refused(name):
    with pytest.raises(ValueError, match="not an entry"):
        from_reference_name(name)


@pytest.mark.parametrize(("name", "members"), [("conv1.weight", 1), ("trunk.head.weight", 2), ("encoders.1.weight", 1)])
def test_names_we_do_not_use_are_refused(name, members):
    with pytest.raises(ValueError, match="not an entry"):
        to_reference_name(name, members)


def test_any_trunk_may_be_shared():
    trunk = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())
    network = MixMo(nn.Conv2d(3, 8, 3, padding=1), trunk, nn.Linear(8, 3), members=4)
    assert network(torch.zeros(2, 3, 5, 5)).shape == (2, 4, 3)
