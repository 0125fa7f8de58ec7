"""Any model becomes M subnetworks: what it computes stays, and what cannot be is refused in a line.

Models are small or see small images, so that each case takes a moment.
"""

import copy
import pickle
import warnings

import pytest
import timm
import torch
import torch.nn.functional as F
import torchvision
from places import REPOSITORY
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

import mixmo_fast as mf
from mixmo_fast.errors import MixmoError
from mixmo_fast.mixing.block import mix_features
from mixmo_fast.networks.mimoify import SlottedTrunk
from mixmo_fast.networks.work import forward_macs

MODELS = {  # how to build it, and the size of its images
    "resnet18": (lambda: timm.create_model("resnet18", num_classes=5), 32),
    "resnet34": (lambda: timm.create_model("resnet34", num_classes=5), 32),
    "resnet50": (lambda: timm.create_model("resnet50", num_classes=5), 32),
    "convnext_atto": (lambda: timm.create_model("convnext_atto", num_classes=5), 32),
    "efficientnet_b0": (lambda: timm.create_model("efficientnet_b0", num_classes=5, drop_rate=0.2), 32),
    "vit": (lambda: timm.create_model("vit_tiny_patch16_224", num_classes=5, img_size=32, depth=2), 32),
    "torchvision resnet18": (lambda: torchvision.models.resnet18(num_classes=5), 32),
    "torchvision vit": (
        lambda: torchvision.models.VisionTransformer(32, 16, 2, 2, 32, 64, dropout=0.1, num_classes=5),
        32,
    ),
}
SLOTTED = ("vit", "torchvision vit")
each_model = pytest.mark.parametrize("name", MODELS)


def built(name: str) -> tuple[nn.Module, int]:
    build, size = MODELS[name]
    torch.manual_seed(1)
    model = build()
    for parameter in model.parameters():  # some heads start from zeros, which would hide a difference
        if not parameter.any():
            nn.init.normal_(parameter, std=0.1)
    return model, size


def images(rows: int, size: int, members: int = 1) -> Tensor:
    return torch.randn(rows, 3 * members, size, size, generator=torch.Generator().manual_seed(2))


@each_model
def test_one_member_is_the_model_to_the_bit(name):
    model, size = built(name)
    for keep_weights in (True, False):
        network, shown = mf.mimoify(model, 1, keep_weights=keep_weights, image_size=size), images(4, size)
        for training in (False, True):
            own = copy.deepcopy(model).train(training)
            torch.manual_seed(3)  # dropout draws alike
            expected = own(shown)
            torch.manual_seed(3)
            assert torch.equal(network.train(training)(shown)[:, 0], expected)


@each_model
def test_the_model_that_is_given_stays_as_it_is(name):
    model, size = built(name)
    model.eval()
    state, random = copy.deepcopy(model.state_dict()), torch.get_rng_state()
    mf.mimoify(model, 1, image_size=size)
    assert torch.equal(torch.get_rng_state(), random) or name  # only heads of several members are drawn
    assert all(torch.equal(tensor, state[key]) for key, tensor in model.state_dict().items())
    assert not any(module.training or module._forward_hooks for module in model.modules())


@each_model
def test_kept_weights_predict_of_one_image_what_the_model_does(name):
    model, size = built(name)
    network, shown = mf.mimoify(model.double(), 3, image_size=size).eval(), images(2, size).double()
    expected = model.eval()(shown)
    torch.testing.assert_close(network(shown), expected[:, None].expand(-1, 3, -1), rtol=1e-9, atol=1e-9)


@each_model
def test_the_call_on_one_image_is_the_formula(name):
    model, size = built(name)
    network = mf.mimoify(model, 2, keep_weights=False, image_size=size).double().eval()
    shown = images(2, size).double()
    mixed = mix_features([encoder(shown) for encoder in network.encoders], torch.full((2, 2, 1, 1), 0.5))
    features = network.trunk(mixed)
    expected = torch.stack([head(features) for head in network.heads], dim=1)
    torch.testing.assert_close(network(shown), expected, rtol=1e-9, atol=1e-9)


@each_model
def test_one_image_costs_what_it_costs_the_model_but_for_a_head(name):
    model, size = built(name)
    one, two = (forward_macs(mf.mimoify(model, members, image_size=size), size, size) for members in (1, 2))
    network = mf.mimoify(model, 2, image_size=size)
    height, width = network.map_size(size, size)
    encoder, head = network.encoders[0], network.heads[0]
    assert two - one == encoder.weight.numel() * height * width + head.weight.numel()
    assert flop(network, images(1, size)) == flop(model, images(1, size)) + 2 * head.weight.numel()


def flop(network: nn.Module, shown: Tensor) -> int:
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        network.eval()(shown)
    return counter.get_total_flops()


@each_model
def test_members_see_their_own_images_and_learn_apart(name):
    model, size = built(name)
    network = mf.mimoify(model, 2, image_size=size)
    optimizer = torch.optim.SGD(network.parameters(), lr=0.001)
    shown, masks = images(4, size, 2), torch.full((4, 2, 1, 1), 0.5)
    for _ in range(2):
        logits = network(shown, masks)
        optimizer.zero_grad()
        (F.cross_entropy(logits[:, 0], torch.arange(4)) + F.cross_entropy(logits[:, 1], torch.arange(4) + 1)).backward()
        optimizer.step()
    network.eval()
    with torch.no_grad():
        logits = network(images(2, size))
    assert torch.isfinite(logits).all()
    assert (logits[:, 0] - logits[:, 1]).abs().max() > 1e-4
    assert not torch.equal(network.encoders[0].weight, network.encoders[1].weight)


@each_model
def test_it_is_saved_copied_and_loaded(name):
    model, size = built(name)
    network, shown = mf.mimoify(model, 2, keep_weights=False, image_size=size).eval(), images(2, size)
    expected = network(shown)
    other = mf.mimoify(model, 2, keep_weights=False, image_size=size).eval()
    assert not torch.equal(other(shown), expected)
    other.load_state_dict(network.state_dict())
    for same in (other, copy.deepcopy(network), pickle.loads(pickle.dumps(network))):
        assert torch.equal(same(shown), expected)


@pytest.mark.parametrize("name", ["resnet18", "vit"])
@pytest.mark.parametrize("stem", ["grouped", "dense"])
def test_encoders_are_computed_as_one_for_any_convolution(name, stem):
    model, size = built(name)
    network = mf.mimoify(model, 2, keep_weights=False, image_size=size).double().eval()
    shown, masks = images(2, size, 2).double(), torch.tensor([0.3, 0.7]).view(1, 2, 1, 1).expand(2, -1, -1, -1)
    expected = network(shown, masks)
    network.stem = stem
    torch.testing.assert_close(network(shown, masks), expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("name", ["resnet18", *SLOTTED])
def test_the_folded_call_is_exported(name):
    model, size = built(name)
    network, shown = mf.mimoify(model, 2, keep_weights=False, image_size=size).eval(), images(2, size)
    exported = torch.export.export(network, (shown,), strict=False).module()
    torch.testing.assert_close(exported(shown), network(shown))
    assert isinstance(network.trunk, SlottedTrunk) == (name in SLOTTED)


def test_a_model_that_looks_at_its_image_first_is_compiled_in_one_piece():
    model, size = built("vit")
    network = mf.mimoify(model, 2, keep_weights=False, image_size=size).to(memory_format=torch.channels_last)
    shown, masks = images(2, size, 2), torch.full((2, 2, 1, 1), 0.5)
    compiled = torch.compile(network, fullgraph=True, dynamic=False, backend="aot_eager")
    torch.testing.assert_close(compiled(shown, masks), network(shown, masks))
    compiled(shown, masks).sum().backward()
    assert network.trunk.slot.map is None


def test_a_model_that_looks_at_its_image_takes_the_sizes_that_it_took():
    model = timm.create_model("vit_tiny_patch16_224", num_classes=5, img_size=32, depth=1, dynamic_img_size=True).eval()
    network = mf.mimoify(model, 1, image_size=32).eval()
    with torch.no_grad():
        assert torch.equal(network(images(1, 64))[:, 0], model(images(1, 64)))


def test_members_that_begin_alike_learn_which_image_is_theirs(digits):
    """Every mask is exactly 1/2, so that nothing but its encoder can tell a member which image is its own."""
    dataset = mf.open_dataset("digits", digits)
    convolution = {"kernel_size": 3, "padding": 1, "stride": 2}
    torch.manual_seed(1)
    model = nn.Sequential(
        *(nn.Conv2d(3, 32, **convolution), nn.BatchNorm2d(32), nn.ReLU()),
        *(nn.Conv2d(32, 64, **convolution), nn.BatchNorm2d(64), nn.ReLU(), nn.Flatten(), nn.Linear(64 * 16, 10)),
    )
    epochs = "schedule.epochs=8"

    def trained(network: mf.MixMo, *overrides: str) -> tuple[float, float]:
        """Trains, and returns how often members gave the class of their own image, and of the other's, at last."""
        config = mf.load_config(REPOSITORY / "configs/quickstart.yaml", epochs, "msda=null", *overrides)
        optimizer = torch.optim.AdamW(network.parameters(), lr=2e-3)
        with mf.training_batches(config, dataset, network=network) as batches:
            for epoch in range(1, 9):
                own = other = 0.0
                for batch in batches.epoch(epoch):
                    logits, classes = network(batch.images, network.masks(batch)), batch.labels[..., 0]
                    optimizer.zero_grad()
                    mf.soft_cross_entropy(logits, batch.labels, batch.share, batch.weight).backward()
                    optimizer.step()
                    own += (logits.argmax(-1) == classes).double().mean().item()
                    other += (logits.argmax(-1) == classes.flip(1)).double().mean().item()
        return own / batches.steps_per_epoch, other / batches.steps_per_epoch

    single = mf.mimoify(model, 1, image_size=16)
    assert trained(single, "network.members=1", "mixing=null", "batch.repetitions=1")[0] > 0.8
    with torch.no_grad():
        for mine, trained_ones in zip(model.state_dict().values(), single_state(single, model), strict=True):
            mine.copy_(trained_ones)
    network = mf.mimoify(model, 2, image_size=16)
    assert torch.equal(network.encoders[0].weight, network.encoders[1].weight)
    own, other = trained(network, "mixing.method=linear", "mixing.prob=1", "mixing.alpha=0", "batch.repetitions=2")
    assert own > 2 * other


def single_state(network: mf.MixMo, model: nn.Module) -> list[Tensor]:
    """A model's state, by its own names, out of the network of one member that was made of it."""
    parts = {"0": network.encoders[0], str(len(model) - 1): network.heads[0]}
    state = network.trunk.state_dict() | {
        f"{name}.{key}": tensor for name, part in parts.items() for key, tensor in part.state_dict().items()
    }
    return [state[name] for name in model.state_dict()]


class Small(nn.Module):
    """Ends that can be changed."""

    def __init__(self, stem: nn.Module | None = None, head: nn.Module | None = None):
        super().__init__()
        self.late = nn.Conv2d(8, 8, 3, padding=1)  # registered before the stem
        self.stem = stem or nn.Conv2d(3, 8, 3, padding=1, dilation=1)
        self.head = head or nn.Linear(8, 5)
        self.unused = nn.Linear(8, 5)

    def before(self, image: Tensor) -> Tensor:
        return image

    def after(self, logits: Tensor, image: Tensor) -> object:
        return logits

    def forward(self, image: Tensor) -> object:
        x = F.relu(self.late(F.relu(self.stem(self.before(image)))))
        return self.after(self.head(x.mean((2, 3))), image)


def changed(**methods) -> nn.Module:
    return type("Changed", (Small,), methods)()


def test_layers_are_found_where_they_are_called_not_where_they_are_registered():
    model = Small().eval()
    network = mf.mimoify(model, 1, image_size=16)
    assert torch.equal(network.encoders[0].weight, model.stem.weight)
    assert torch.equal(network.heads[0].weight, model.head.weight)
    named = mf.mimoify(model, 1, stem="stem", head="head", image_size=16)
    assert torch.equal(named(images(1, 16)), network(images(1, 16)))


def test_another_number_of_classes_has_heads_of_its_own():
    network = mf.mimoify(Small(), 2, classes=7, image_size=16)
    assert network(images(1, 16)).shape == (1, 2, 7)
    assert not torch.equal(network.heads[0].weight, network.heads[1].weight)
    assert torch.equal(network.encoders[0].weight, network.encoders[1].weight)


def test_fresh_members_are_drawn_by_the_law_of_the_first():
    model = Small(stem=nn.Conv2d(3, 256, 3), head=nn.Linear(8, 5))
    model.late = nn.Conv2d(256, 8, 3)
    with torch.no_grad():
        model.stem.weight.normal_(0.5, 0.1)
    network = mf.mimoify(model, 2, keep_weights=False, image_size=16)
    weight = network.encoders[1].weight
    assert torch.equal(network.encoders[0].weight, model.stem.weight)
    assert (weight.mean().item(), weight.std().item()) == pytest.approx((0.5, 0.1), abs=0.01)


def shared() -> nn.Module:
    model = Small()
    model.unused.weight = model.head.weight
    return model


def twice() -> nn.Module:
    return changed(before=lambda self, image: image + 0 * self.stem(image).mean())


@pytest.mark.parametrize(
    ("make", "options", "message"),
    [
        (Small, {"members": 0}, "members and classes must be at least 1, found 0"),
        (Small, {"classes": 0}, "members and classes must be at least 1"),
        (lambda: nn.Sequential(nn.Flatten(), nn.Linear(768, 5)), {}, "stem: the model has no nn.Conv2d"),
        (lambda: nn.Conv2d(3, 5, 3), {}, "head: the model has no nn.Linear"),
        (lambda: Small(nn.LazyConv2d(8, 3)), {}, "stem.weight has no shape yet"),
        (lambda: Small(nn.Conv2d(1, 8, 3)), {}, "cannot be run on images of 3 x 16 x 16"),
        (lambda: Small(type("Same", (nn.Conv2d,), {})(3, 8, 3)), {}, "found stem, a Same of 1 groups"),
        (lambda: Small(nn.Conv2d(3, 8, 3, padding=1, padding_mode="circular")), {}, "pads by circular"),
        (shared, {}, "head shares its weights with unused.weight"),
        (twice, {}, "stem: stem is called more than once"),
        (Small, {"stem": "stm"}, "stem: found 'stm', allowed: late, stem"),
        (Small, {"stem": "late"}, "stem: found late, allowed: stem, which reads the image"),
        (Small, {"head": "unused"}, "head: found unused, allowed: head, whose output the model returns"),
        (
            lambda: changed(before=lambda self, image: image * 2),
            {},
            "the first convolution, stem, does not read the image",
        ),
        (lambda: changed(after=lambda self, logits, image: logits.log_softmax(1)), {}, "does not return what its last"),
        (lambda: changed(after=lambda self, logits, image: (logits, logits)), {}, "returns a tuple .of head., allowed"),
        (
            lambda: Small(nn.Conv2d(3, 9, 3, groups=3, padding=1)).apply(
                lambda module: setattr(module, "late", nn.Conv2d(9, 8, 3)) if isinstance(module, Small) else None
            ),
            {},
            "a Conv2d of 3 groups",
        ),
        (lambda: torch.compile(Small()), {}, "found a OptimizedModule, allowed: an nn.Module"),
        (lambda: "resnet18", {}, "found a str, allowed: an nn.Module"),
    ],
)
def test_what_no_mixmo_can_be_made_of_is_refused_in_one_line(make, options, message):
    with pytest.raises(MixmoError, match=message) as refused:
        mf.mimoify(make(), **{"members": 2, "image_size": 16} | options)
    assert str(refused.value).startswith("mimoify: ") and "\n" not in str(refused.value)


def test_a_model_that_looks_at_the_pixels_beside_its_stem_is_refused():
    model = changed(after=lambda self, logits, image: logits.add_(image.mean()))
    with pytest.raises(MixmoError, match="between stem and head the model does more"):
        mf.mimoify(model, 2, image_size=16)


def test_two_convolutions_that_read_the_image_are_named():
    model = Small()
    model.other = nn.Conv2d(3, 8, 3, padding=1)
    model.before = lambda image: (model.other(image), image)[1]
    with pytest.raises(MixmoError, match=r"stem: 2 calls read the image \(other, stem\), allowed: one"):
        mf.mimoify(model, 2, image_size=16)


def test_nothing_is_warned_of():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        mf.mimoify(torchvision.models.resnet18(), 2, image_size=32)
