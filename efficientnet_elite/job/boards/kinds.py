"""The kinds of boards."""

from __future__ import annotations

from efficientnet_elite import registry
from efficientnet_elite.device.instructions import MICROCONTROLLERS
from efficientnet_elite.export.packages.ethos_u import ACCELERATORS
from efficientnet_elite.job.boards.definitions import Kind, Setting

_HERE = "efficientnet_elite.job.boards"
CORES = Setting("cores", "the cores that an inference may use, such as 4-7; all of them without")
CPUS = ("cortex-a53", "cortex-a72", "cortex-a76", "neoverse-n1")

KINDS = registry.table(
    Kind(
        "local",
        "this machine",
        (CORES,),
        check=f"{_HERE}.local:check",
        measure=f"{_HERE}.local:measure",
    ),
    Kind(
        "ssh",
        "a board with Linux and Python, reached by OpenSSH",
        (
            Setting("address", "host, user@host, or a name of ~/.ssh/config", required=True),
            Setting("port", "port of the SSH server", int),
            Setting("identity", "file of the private key"),
            Setting("options", "further options of ssh, each as NAME=VALUE", list),
            Setting(
                "folder", "where files are put there [.cache/elite-boards, of the user's home]"
            ),
            Setting("python", "Python 3.9 or newer there [python3]"),
            Setting("packages", "what pip installs there [ai-edge-litert, numpy, absl-py]", list),
            Setting("wheels", "folder of wheels here, for boards that reach no package index"),
            Setting("install", "false: use the packages that its Python has [true]", bool),
            CORES,
        ),
        check=f"{_HERE}.ssh:check",
        measure=f"{_HERE}.ssh:measure",
        machine=("address", "port"),
    ),
    Kind(
        "adb",
        "a phone with Android, reached by adb",
        (
            Setting("benchmark_model", "TensorFlow Lite's program of that name", required=True),
            Setting("serial", "which phone, as `adb devices` lists it"),
            Setting("folder", "where files are put there [/data/local/tmp/elite-boards]"),
        ),
        check=f"{_HERE}.adb:check",
        measure=f"{_HERE}.adb:measure",
        machine=("serial",),
    ),
    Kind(
        "qemu",
        "an emulated Arm processor, which counts instructions",
        (
            Setting("cpu", "the processor", required=True, values=CPUS),
            Setting("root", "folder of a system for aarch64 with Python", required=True),
            Setting("python", "Python within it [usr/bin/python3]"),
            Setting("packages", "folder with ai-edge-litert and numpy for it [ROOT/packages]"),
        ),
        check=f"{_HERE}.qemu:check",
        measure=f"{_HERE}.qemu:measure",
    ),
    Kind(
        "cortex-m",
        "an emulated Cortex-M4 or M55 that runs the network in C, and counts instructions",
        (
            Setting(
                "cpu",
                "the processor [cortex-m4]",
                values=tuple(f"cortex-{core}" for core in MICROCONTROLLERS),
            ),
        ),
        check=f"{_HERE}.cortex_m:check",
        measure=f"{_HERE}.cortex_m:measure",
    ),
    Kind(
        "ethos-u",
        "Arm's accelerator, whose cycles and memory Vela estimates",
        (
            Setting("accelerator", "its configuration", required=True, values=ACCELERATORS),
            Setting("system", "clock and memories, as Vela's file names them [Vela's default]"),
            Setting("memory_mode", "where tensors lie, as Vela's file names it [Vela's default]"),
        ),
        check=f"{_HERE}.ethos_u:check",
        measure=f"{_HERE}.ethos_u:measure",
    ),
    Kind(
        "browser",
        "a device whose browser showed the web package and gave its JSON file",
        (Setting("results", "files of the page's measurements", list, required=True),),
        check=f"{_HERE}.browser:check",
        measure=f"{_HERE}.browser:measure",
        reads=True,
    ),
)
