#!/usr/bin/env python3
"""Write the public Python names of a TensorRT bindings wheel to JSON, without a GPU and without TensorRT's libraries.

The extension module in a bindings wheel (tensorrt.so, tensorrt_rtx.so, ...) links libnvinfer, libnvonnxparser and
others, but importing it needs only that these names and symbols resolve. So this script

1. unpacks the wheel (or takes a folder that holds the unpacked one) and finds the extension module,
2. reads its NEEDED entries (readelf -d); each that the loader cannot find gets a stub library of that SONAME (g++),
3. lists its undefined symbols (nm -D); those no present library provides are defined in the first stub:
   functions return 0, typeinfo and vtables are data,
4. in a subprocess, without site-packages, preloads the stubs and imports the bindings package (its __init__.py too,
   which adds a few names; the extension alone where that fails),
5. writes {"version": ..., "names": {"": [module names], "Class": [attributes], "Class.Nested": [...], ...}}.

Nothing of TensorRT can be called this way; only names and docstrings are there. The Python that runs this must match
the wheel's tag (cp311: Python 3.11). Linux only; needs g++, nm and readelf.

    extract_api.py WHEEL_OR_FOLDER OUT.json [--stubs FOLDER] [--docs OUT_DOCS.json]
"""

from __future__ import annotations

import argparse
import ctypes
import importlib.machinery
import importlib.util
import json
import re
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path
from types import ModuleType

Api = dict[str, dict[str, str]]  # class ("" for the module) -> public name -> docstring
CHILD_LIMIT_S = 120
DATA_BYTES = 4096  # for a vtable or another data symbol, whose true size is unknown here


def output_of(*command: str) -> str:
    """What a command prints; raises where it fails."""
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def find_extension(folder: Path) -> Path:
    """The one tensorrt*.so in folder that is a Python extension module."""
    found = [
        path
        for path in sorted(folder.rglob("tensorrt*.so"))
        if f"PyInit_{path.stem}" in output_of("nm", "-D", "--defined-only", str(path)).split()
    ]
    if len(found) != 1:
        raise SystemExit(f"{folder}: expected one TensorRT extension module, found {[str(path) for path in found]}")
    return found[0]


def version_of(extension: Path) -> str:
    """The __version__ that the package beside the extension module states, or ""."""
    init = extension.with_name("__init__.py")
    text = init.read_text(encoding="utf-8") if init.exists() else ""
    match = re.search(r'^__version__ = "([^"]+)"', text, re.MULTILINE)
    return match[1] if match else ""


def absent_libraries(extension: Path) -> list[str]:
    """The libraries extension needs that cannot be loaded here; loads the others, for missing_symbols."""
    absent = []
    for name in re.findall(r"\(NEEDED\).*\[(.+)\]", output_of("readelf", "-d", str(extension))):
        try:
            ctypes.CDLL(name, mode=ctypes.RTLD_GLOBAL)
        except OSError:
            absent.append(name)
    return absent


def missing_symbols(extension: Path) -> list[str]:
    """Undefined symbols of extension that this process (the interpreter, libc, libstdc++, ...) does not provide."""
    process = ctypes.CDLL(None)
    listing = output_of("nm", "-D", "--undefined-only", str(extension))
    undefined = re.findall(r"^\s+U ([^@\s]+)", listing, re.MULTILINE)
    return sorted({name for name in undefined if not hasattr(process, name)})


def stub_source(symbols: list[str]) -> str:
    """C++ that defines symbols (mangled or plain names, hence extern "C")."""
    lines = ['extern "C" {', "extern void* _ZTVN10__cxxabiv117__class_type_infoE[];"]
    for name in symbols:
        if name.startswith("_ZTI"):  # a std::type_info without bases: its vtable, then its name
            lines.append(f'const void* {name}[2] = {{_ZTVN10__cxxabiv117__class_type_infoE + 2, "{name[4:]}"}};')
        elif name.startswith(("_ZTV", "_ZTS", "_ZTT")):
            lines.append(f"char {name}[{DATA_BYTES}] __attribute__((aligned(16)));")
        else:
            lines.append(f"void* {name}() {{ return 0; }}")
    return "\n".join([*lines, "}", ""])


def build_stubs(extension: Path, folder: Path) -> list[Path]:
    """Build the stub libraries that extension needs; the first holds all symbols, the others are empty."""
    folder.mkdir(parents=True, exist_ok=True)
    absent = absent_libraries(extension)
    symbols = missing_symbols(extension)
    if symbols and not absent:
        raise SystemExit(f"{extension}: no library is absent, yet these symbols are: {symbols}")
    stubs: list[Path] = []
    for name in absent:
        source, stub = folder / f"{name}.cpp", folder / name
        source.write_text(stub_source([] if stubs else symbols), encoding="utf-8")
        options = ("-shared", "-fPIC", "-w", f"-Wl,-soname,{name}", "-Wl,-z,noexecstack")
        output_of("g++", *options, "-o", str(stub), str(source))
        stubs.append(stub)
    return stubs


def load(name: str, path: Path, folder: str | None = None) -> ModuleType:
    """Import the file at path as name (as a package, where folder is given)."""
    spec = importlib.util.spec_from_file_location(name, path, submodule_search_locations=[folder] if folder else None)
    if spec is None or spec.loader is None:
        raise ImportError(f"cannot import {path}")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


def import_bindings(extension: Path) -> tuple[ModuleType, set[str]]:
    """The bindings package (or the extension alone) and the names that are its API.

    From __init__.py only functions and classes count, not what it imports or its loop variables.
    """
    package = extension.parent.name
    try:
        module = load(package, extension.with_name("__init__.py"), str(extension.parent))
    except (AttributeError, ImportError, NameError, OSError) as error:
        print(f"{package}: {error!r}; reading the extension module alone", file=sys.stderr)
        module = load(extension.stem, extension)
        return module, set(dir(module))
    own = {name for name, value in vars(module).items() if getattr(value, "__module__", None) == package}
    return module, own | set(dir(sys.modules[f"{package}.{extension.stem}"]))


def doc_of(value: object) -> str:
    """The docstring of a class, function, method or property; "" for other values."""
    described = isinstance(value, (type, property)) or callable(value)
    return (getattr(value, "__doc__", None) or "").strip() if described else ""


def add_class(api: Api, name: str, cls: type) -> None:
    """Record a class's public attributes, and those of the classes nested in it."""
    api[name] = {}
    for attribute in dir(cls):
        if attribute.startswith("_"):
            continue
        value = getattr(cls, attribute)
        api[name][attribute] = doc_of(value)
        if isinstance(value, type):
            add_class(api, f"{name}.{attribute}", value)


def read_api(module: ModuleType, names: set[str]) -> Api:
    """All public names of module among names, and of its classes."""
    api: Api = {"": {}}
    for name in sorted(name for name in names if not name.startswith("_")):
        value = getattr(module, name)
        if isinstance(value, ModuleType):
            continue
        api[""][name] = doc_of(value)
        if isinstance(value, type):
            add_class(api, name, value)
    return api


def child(extension: Path, stubs: list[str]) -> None:
    """Preload stubs, import extension, print its API as JSON."""
    for stub in stubs:
        ctypes.CDLL(stub, mode=ctypes.RTLD_GLOBAL)
    print(json.dumps(read_api(*import_bindings(extension))))


def api_of(extension: Path, stubs: list[Path]) -> Api:
    """Run child in a fresh interpreter that sees neither site-packages nor the environment's PYTHON* settings."""
    command = [sys.executable, "-I", "-S", "-B", __file__, "--child", str(extension), *map(str, stubs)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, timeout=CHILD_LIMIT_S, check=False)
    if done.returncode:
        raise SystemExit(f"{extension}: importing it failed (exit status {done.returncode})")
    api: Api = json.loads(done.stdout)
    return api


def write_json(path: Path, version: str, key: str, entries: dict[str, list[str]] | Api) -> None:
    """Write the version and entries, sorted, one class per line."""
    lines = (f"{json.dumps(name)}: {json.dumps(entries[name], sort_keys=True)}" for name in sorted(entries))
    text = f'{{"version": {json.dumps(version)}, "{key}": {{\n' + ",\n".join(lines) + "\n}}\n"
    path.write_text(text, encoding="utf-8")


def extract(source: Path, out: Path, stub_folder: Path | None, docs: Path | None) -> None:
    """Do all of it for one wheel or folder."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = source
        if source.is_file():
            folder = Path(scratch) / "wheel"
            zipfile.ZipFile(source).extractall(folder)
        extension = find_extension(folder.resolve())
        stubs = build_stubs(extension, (stub_folder or Path(scratch) / "stubs").resolve())
        api = api_of(extension, stubs)
        version = version_of(extension)
    write_json(out, version, "names", {name: sorted(attributes) for name, attributes in api.items()})
    if docs:
        write_json(docs, version, "docs", api)


def main() -> None:
    """Parse the command line."""
    if sys.argv[1:2] == ["--child"]:
        child(Path(sys.argv[2]), sys.argv[3:])
        return
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("source", type=Path, metavar="WHEEL_OR_FOLDER")
    parser.add_argument("out", type=Path, metavar="OUT.json")
    parser.add_argument("--stubs", type=Path, metavar="FOLDER", help="keep the stub libraries here")
    parser.add_argument("--docs", type=Path, metavar="OUT_DOCS.json", help="also write every name's docstring")
    args = parser.parse_args()
    extract(args.source, args.out, args.stubs, args.docs)


if __name__ == "__main__":
    main()
