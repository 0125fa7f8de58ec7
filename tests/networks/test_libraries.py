"""Networks of timm and torchvision by name: built for the size of image, and refused in a line where they cannot be."""

import sys
import urllib.error

import pytest
import timm
import torch
import torchvision

import mixmo_fast as mf
from mixmo_fast.config.schema import LibraryNetworkConfig, NetworkConfig
from mixmo_fast.errors import ConfigError
from mixmo_fast.networks.anatomy import active_filters, encoder_l1
from mixmo_fast.networks.kinds import KINDS, LIBRARIES
from mixmo_fast.networks.libraries import library_meta, library_network
from mixmo_fast.networks.work import forward_macs, strides_over_the_map
from mixmo_fast.reproduce.work import network_size
from mixmo_fast.run.build import make_recipe
from mixmo_fast.run.stem import stem_of
from pipelines.datasets.catalog import dataset_info

NAMED = [
    ("timm", "resnet18", 32, (16, 16), 64, (7, 7)),
    ("timm", "convnext_atto", 32, (8, 8), 40, (4, 4)),
    ("timm", "vit_tiny_patch16_224", 32, (2, 2), 192, (16, 16)),
    ("timm", "mobilenetv3_small_050", 64, (32, 32), 16, (3, 3)),
    ("torchvision", "resnet18", 64, (32, 32), 64, (7, 7)),
    ("torchvision", "wide_resnet50_2", 32, (16, 16), 64, (7, 7)),
]


def test_every_library_has_a_builder():
    assert all(row.builder.startswith("mixmo_fast.networks.libraries:") for row in LIBRARIES.values())
    assert not {*KINDS} & {*LIBRARIES}


@pytest.mark.parametrize(("library", "name", "size", "map_size", "channels", "kernel"), NAMED)
def test_masks_are_for_the_map_behind_the_first_convolution(library, name, size, map_size, channels, kernel):
    stem = stem_of(LibraryNetworkConfig(kind=library, name=name, members=2), size, size)
    assert (stem.map_size, stem.channels, stem.kernel) == (map_size, channels, kernel)
    network = library_meta(library, name, 2, 10, size, size)
    encoder = network.encoders[0]
    assert encoder(torch.empty(1, 3, size, size, device="meta")).shape == (1, channels, *map_size)


def test_the_papers_networks_have_the_stem_of_their_row():
    for kind, row in KINDS.items():
        stem = stem_of(NetworkConfig(kind=kind, depth=row.depths[0], width=1), 32, 32)
        network = row.build(row.depths[0], 1, 1, 10)
        assert stem.map_size == network.map_size(32, 32)
        assert (stem.channels, stem.kernel) == (network.stem_width, network.encoders[0].kernel_size)


def test_fresh_members_differ_and_depend_on_the_generator_alone():
    def drawn(seed: int) -> dict[str, torch.Tensor]:
        torch.manual_seed(seed)
        return library_network("timm", "resnet18", 2, 10, 32, 32, pretrained=False).state_dict()

    first, same, other = drawn(1), drawn(1), drawn(2)
    assert all(torch.equal(tensor, same[name]) for name, tensor in first.items())
    for part in ("encoders", "heads"):
        assert not torch.equal(first[f"{part}.0.weight"], other[f"{part}.0.weight"])
        assert not torch.equal(first[f"{part}.0.weight"], first[f"{part}.1.weight"])


@pytest.mark.parametrize(
    ("library", "name", "message"),
    [
        ("timm", "resnet19", r"network.name: timm has no network 'resnet19'; did you mean \w+"),
        ("torchvision", "wide_resnet50", "torchvision has no network 'wide_resnet50'; did you mean .*wide_resnet50_2"),
        ("timm", "zzz", "timm has no network 'zzz'; allowed: one of its"),
        ("timm", "resnet18.nothing", "network.name: cannot build timm's resnet18.nothing: .*tag"),
        (
            "timm",
            "tf_efficientnet_b0",
            "no MixMo of timm's tf_efficientnet_b0: mimoify: stem: found conv_stem, a Conv2dSame",
        ),
        ("timm", "resnetv2_50", "no MixMo of timm's resnetv2_50: mimoify: head: the model has no nn.Linear"),
        ("torchvision", "squeezenet1_0", "head: the model has no nn.Linear"),
    ],
)
def test_a_name_that_stands_for_nothing_is_refused_in_one_line(library, name, message):
    with pytest.raises(ConfigError, match=message) as refused:
        library_meta(library, name, 2, 10, 32, 32)
    assert "\n" not in str(refused.value)


def test_a_map_that_does_not_divide_the_image_is_refused():
    with pytest.raises(ConfigError, match=r"network\.name: inception_v3 maps images of 96x96 pixels to 47x47"):
        stem_of(LibraryNetworkConfig(kind="timm", name="inception_v3", members=2), 96, 96)


def test_masks_of_blocks_that_do_not_fit_a_small_map_are_refused():
    tree = mf.load_config("exp_cifar10_wrn2810-2_cutmixmo-p5_standard_bar1").model_dump()
    network = {"kind": "timm", "name": "vit_tiny_patch16_224", "members": 2}
    config = mf.load_config({**tree, "network": network}, "mixing.method=patchuphard")
    with pytest.raises(ConfigError, match=r"mixing, msda: patchuphard places blocks of \d pixels, the map is \(2, 2\)"):
        make_recipe(config, dataset_info("cifar10"))


@pytest.mark.parametrize("library", LIBRARIES)
def test_a_missing_library_is_named_with_the_command_that_installs_it(library, monkeypatch):
    monkeypatch.setitem(sys.modules, library, None)
    with pytest.raises(ConfigError, match=rf"network.kind: {library} is not installed .*; pip install") as refused:
        library_network(library, "resnet18", 2, 10, 32, 32, pretrained=False)
    assert LIBRARIES[library].install in str(refused.value)


@pytest.mark.parametrize(("library", "package"), [("timm", timm), ("torchvision", torchvision.models)])
def test_weights_that_cannot_be_downloaded_are_told_in_one_line(library, package, monkeypatch):
    def offline(*_, **options):
        assert options.get("pretrained", options.get("weights"))
        raise urllib.error.URLError("no\nnetwork")

    monkeypatch.setattr(package, "create_model" if library == "timm" else "get_model", offline)
    with pytest.raises(
        ConfigError, match=f"network.pretrained: cannot load the weights of {library}'s resnet18"
    ) as told:
        library_network(library, "resnet18", 2, 10, 32, 32, pretrained=True)
    assert "\n" not in str(told.value)


@pytest.mark.parametrize("classes", [1000, 7])
def test_weights_that_are_downloaded_are_kept_and_new_classes_get_new_heads(classes, monkeypatch):
    create = timm.create_model

    def downloaded(name, pretrained, **options):
        assert pretrained and not options
        return create(name)

    monkeypatch.setattr(timm, "create_model", downloaded)
    torch.manual_seed(1)
    network = library_network("timm", "resnet18", 2, classes, 32, 32, pretrained=True)
    torch.manual_seed(1)
    model = create("resnet18")
    assert torch.equal(network.encoders[0].weight + network.encoders[1].weight, model.conv1.weight)
    assert torch.equal(network.trunk.layer1[0].conv1.weight, model.layer1[0].conv1.weight)
    assert torch.equal(network.heads[0].weight, network.heads[1].weight) == (classes == 1000)
    assert torch.equal(network.heads[0].weight, model.fc.weight) if classes == 1000 else network.classes == 7


def test_the_size_of_a_network_is_that_of_the_network():
    settings = LibraryNetworkConfig(kind="timm", name="resnet18", members=2)
    network = library_network("timm", "resnet18", 2, 10, 32, 32, pretrained=False)
    size = network_size(settings, 10, 32, 32)
    assert size.parameters == sum(parameter.numel() for parameter in network.parameters())
    assert size.macs == forward_macs(network, 32, 32)


def test_an_inspection_counts_convolutions_but_no_shortcuts():
    resnet = library_meta("timm", "resnet18", 2, 10, 32, 32)
    assert len(active_filters(library_network("timm", "resnet18", 2, 10, 32, 32, False))) == 16
    assert encoder_l1(resnet).shape == (2, 64)
    assert active_filters(library_network("timm", "vit_tiny_patch16_224", 2, 10, 32, 32, False)) == ()


def test_a_stride_longer_than_its_map_is_found():
    assert strides_over_the_map(library_meta("timm", "resnet18", 2, 10, 16, 16), 16, 16) == "layer4.0.conv1"
    assert strides_over_the_map(library_meta("timm", "resnet18", 2, 10, 32, 32), 32, 32) is None
