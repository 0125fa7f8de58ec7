"""The examples that end each command's help, by its words: two, as they stand behind the program's name."""

EXAMPLES = {
    "": ("train configs/quickstart.yaml", "evaluate runs/quickstart"),
    "doctor": ("doctor", "doctor --verify --json machine.json"),
    "convert": ("convert cifar100 --data data", "convert folder photographs --name pets --size 64"),
    "preview": (
        "preview configs/quickstart.yaml -o preview.png",
        "preview configs/quickstart.yaml -o later.png --epoch 5",
    ),
    "train": (
        "train configs/quickstart.yaml",
        "train configs/quickstart.yaml --name short --set schedule.epochs=2",
    ),
    "evaluate": (
        "evaluate runs/quickstart --json scores.json",
        "evaluate configs/quickstart.yaml --robustness synthetic -o found",
    ),
    "inspect": ("inspect runs/quickstart", "inspect runs/quickstart --checkpoint best --json members.json"),
    "predict": ("predict runs/quickstart photo.jpg", "predict runs/quickstart pictures --top 3 --csv answers.csv"),
    "export": (
        "export runs/quickstart --format onnx -o quickstart.onnx",
        "export runs/quickstart --format safetensors --checkpoint best",
    ),
    "reproduce": (
        "reproduce cifar100 --dry-run",
        "reproduce configs/quickstart.yaml --seeds 3 -o runs/three",
    ),
    "report": ("report runs/three", "report runs/quickstart runs/short -o comparison"),
    "status": ("status runs/three", "status runs/quickstart --watch"),
    "benchmark": (
        "benchmark configs/quickstart.yaml --json speed.json",
        "benchmark configs/quickstart.yaml --pipelines resident --rows 64,96",
    ),
    "config": (
        "config new exp_cifar100_wrn2810-2_cutmixmo-p5_msdacutmix_bar4",
        "config explain configs/quickstart.yaml",
    ),
    "config new": (
        "config new exp_cifar100_wrn2810-2_cutmixmo-p5_msdacutmix_bar4",
        "config new exp_cifar10_wrn2810-3_cutmixmo-p2_daaugmix_bar2 -o mine",
    ),
    "config import": ("config import OLD.yaml -o NEW.yaml", "config import OLD.yaml -o NEW.yaml --force"),
    "config explain": (
        "config explain configs/quickstart.yaml",
        "config explain configs/quickstart.yaml --set mixing.prob=0.2",
    ),
    "checkpoint": (
        "checkpoint export runs/quickstart -o quickstart.ckpt",
        "checkpoint export runs/quickstart -o best.ckpt --checkpoint best",
    ),
    "checkpoint export": (
        "checkpoint export runs/quickstart -o quickstart.ckpt",
        "checkpoint export runs/quickstart -o best.ckpt --checkpoint best",
    ),
}
