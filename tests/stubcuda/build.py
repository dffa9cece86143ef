"""Compile the stub for the installed torch: gcc, nm, and the headers that come with torch."""

import hashlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
from importlib.util import find_spec
from pathlib import Path

HERE = Path(__file__).resolve().parent
SOURCES = [HERE / name for name in ("build.py", "stub_runtime.c", "stub_driver.c")]
LIBRARIES = ("libstub.so", "libcuda.so.1")
RUNTIME = re.compile(r"(__cuda|cuda|cublas)[A-Z]\w*")  # cublasLt too
DRIVER = re.compile(r"cu(?!File|GetProcAddress)[A-Z]\w*")
# Other libraries' functions fail, which PyTorch reports: the real ones crash without a device.
REFUSED = re.compile(r"(cufft|curand|cusolver|cusparse|nccl)[A-Z](?!.*(Error|Version))\w*")


def torch_folder() -> Path:
    """Folder of the installed torch, found without importing it, which takes seconds."""
    return Path(find_spec("torch").origin).parent


def versions() -> tuple[str, bool]:
    """torch's version, and whether it is built for CUDA."""
    text = (torch_folder() / "version.py").read_text()
    cuda = re.search(r"^cuda\b.*= '", text, re.MULTILINE)
    return re.search(r"^__version__ = '(.+)'", text, re.MULTILINE)[1], cuda is not None


def headers() -> list[Path]:
    """The folders of headers, in any layout of NVIDIA's packages (cu13/…, cuda_runtime/…).

    CUDA 13's lack crt/, which Triton has: its folder comes last, being of another version.
    """
    packages = torch_folder().parent
    found = [path.parent for path in sorted(packages.glob("nvidia/*/include/cuda*.h"))]
    return [*dict.fromkeys(found), packages / "triton/backends/nvidia/include"]


def why_not() -> str | None:
    """What is missing here to build the stub, or None."""
    if not sys.platform.startswith("linux"):
        return "the stub of CUDA is for Linux"
    if missing := [tool for tool in ("gcc", "nm") if shutil.which(tool) is None]:
        return f"no {' and no '.join(missing)} to build the stub of CUDA"
    if not versions()[1]:
        return "this torch is not built for CUDA"
    lacking = {"cuda_runtime_api.h", "cuda.h"} - {p.name for f in headers() for p in f.glob("*.h")}
    return f"no {', '.join(sorted(lacking))} next to torch" if lacking else None


def built(cache: Path) -> Path:
    """Folder of the stub's libraries in `cache`. Builds them if they are missing."""
    digest = hashlib.sha256(b"".join(source.read_bytes() for source in SOURCES)).hexdigest()[:8]
    target = cache / f"stubcuda-{versions()[0]}-{digest}"
    if target.exists():
        return target
    cache.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=cache) as made:
        half = Path(made) / "half"
        half.mkdir()
        build(half)
        try:
            half.rename(target)  # whole or not at all
        except OSError:
            if not target.exists():  # another process was faster, else
                raise
    return target


def build(folder: Path) -> None:
    """Compile our sources, and generated functions for all else that torch and Triton need."""
    symbols = wanted()
    header = next(path for f in headers() if (path := f / "cuda.h").exists()).read_text()
    declared = set(re.findall(r"\bcu[A-Z]\w*(?=\()|\bcu[A-Z]\w*_v\d+\b", header))
    runtime, driver = SOURCES[1:]
    of_runtime = {name for name in symbols if RUNTIME.fullmatch(name)} - written(runtime)
    of_driver = {name for name in symbols | declared if DRIVER.fullmatch(name)} - written(driver)
    refused = {name for name in symbols if REFUSED.fullmatch(name)}
    compiled(folder / LIBRARIES[0], runtime, of_runtime, refused)
    compiled(folder / LIBRARIES[1], driver, of_driver, set())


def wanted() -> set[str]:
    """CUDA symbols that torch's libraries expect from other libraries."""
    libraries = map(str, sorted((torch_folder() / "lib").glob("*.so")))
    command = ["nm", "--dynamic", "--undefined-only", *libraries]
    told = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    lines = [line.split() for line in told.splitlines()]
    return {words[-1].split("@")[0] for words in lines if words}


def written(source: Path) -> set[str]:
    """Functions that one of our sources defines or calls."""
    return set(re.findall(r"\b(?:__)?cu\w+(?=[()])", source.read_text()))


def compiled(target: Path, source: Path, idle: set[str], refused: set[str]) -> None:
    """Compile a library from a source and generated functions: some do nothing, some fail."""
    lines = [f"int {name}() {{ return 0; }}" for name in sorted(idle)]
    lines += ["int stub_refuse(const char *);"]
    lines += [f'int {name}() {{ return stub_refuse("{name}"); }}' for name in sorted(refused)]
    generated = target.parent / f"rest_of_{source.name}"
    generated.write_text("\n".join(lines) + "\n")
    include = [f"-I{folder}" for folder in headers()]
    command = ["gcc", "-shared", "-fPIC", "-O1", "-pthread", *include, "-o", str(target)]
    subprocess.run([*command, str(source), str(generated)], check=True)


def variables(cache: Path) -> dict[str, str]:
    """Environment in which a process finds the stub, built in `cache`, instead of CUDA."""
    folder = str(built(cache))

    def before(variable: str, value: str) -> str:
        return ":".join(filter(None, [value, os.environ.get(variable)]))

    return {
        "LD_PRELOAD": before("LD_PRELOAD", f"{folder}/{LIBRARIES[0]}"),
        "LD_LIBRARY_PATH": before("LD_LIBRARY_PATH", folder),
        "TRITON_LIBCUDA_PATH": folder,
        # Keeps kernels compiled for a device that does not exist apart.
        "TRITON_CACHE_DIR": f"{folder}/triton",
        "TORCHINDUCTOR_CACHE_DIR": f"{folder}/inductor",
    }
