"""Compiles all kernels without a card and writes what the program carries: `python compile.py CRATE [--only NAME] [--arch N]`.

Into CRATE/carried go `kernels.zst` (an archive of cubins per architecture and of PTX), `manifest.json` (functions, launch
shapes, hashes of sources) and `resources.csv` (registers, spills and shared memory from the assembler).
"""
import argparse
import csv
import hashlib
import importlib.util
import io
import json
import os
import re
import struct
import subprocess
import sys
import tempfile
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

HERE = Path(__file__).resolve().parent
SOURCES = sorted([*HERE.glob("kernels/*.py"), HERE / "variants.py", HERE / "compile.py"])
TOOLS = Path(importlib.util.find_spec("triton").origin).parent / "backends/nvidia/bin"
os.environ["TRITON_DISABLE_LINE_INFO"] = "1"
# One assembler for all, the older: what it writes loads in every driver of its major version.
os.environ["TRITON_PTXAS_BLACKWELL_PATH"] = str(TOOLS / "ptxas")


def compiled(arch, name, ptx):
    """One function for one architecture: image, launch shape, resources."""
    import triton
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    import variants

    variant = next(v for v in variants.all_of(arch, ptx) if v.name == name)
    function = variant.function
    function._repr = lambda _: variant.name
    signature = variant.types | {k: "constexpr" for k in variant.constants}
    index = function.arg_names.index
    attrs = {(index(k),): [["tt.divisibility", n]] for k, n in variant.aligned.items()}
    source = ASTSource(fn=function, signature={k: signature[k] for k in function.arg_names}, constexprs=variant.constants, attrs=attrs)
    options = dict(num_warps=variant.warps, num_stages=variant.stages, enable_fp_fusion=variant.fusion)
    if variant.registers:
        options["maxnreg"] = variant.registers
    if ptx:
        options["ptx_version"] = variants.PTX_VERSION
    kernel = triton.compile(source, target=GPUTarget("cuda", arch, 32), options=options)
    meta = kernel.metadata
    assert meta.name == name and meta.global_scratch_size == 0 and meta.profile_scratch_size == 0, (name, meta)
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(kernel.asm["cubin"])
        file.flush()
        usage = subprocess.run([TOOLS / "cuobjdump", "-res-usage", file.name], capture_output=True, text=True, check=True).stdout
    found = re.search(r"REG:(\d+) STACK:(\d+) SHARED:(\d+) LOCAL:(\d+)", usage)
    resources = dict(registers=int(found[1]), stack=int(found[2]) + int(found[4]), shared=meta.shared, threads=32 * meta.num_warps)
    # Halves that are read one by one are read at an eighth of the speed: what is multiplied must be known to lie in line.
    narrow = re.findall(r"ld\.global\S*\.b16", kernel.asm["ptx"])
    assert not narrow or not name.startswith("product_") or name.startswith("product_f32"), (name, arch, len(narrow))
    image = kernel.asm["ptx"].encode() + b"\0" if ptx else kernel.asm["cubin"]
    kinds = "".join({"*": "p", "i": "i", "f": "f"}[variant.types[k][0]] for k in function.arg_names if k in variant.types)
    launch = dict(name=name, warps=meta.num_warps, shared=meta.shared, parameters=kinds, **variant.block)
    return arch, ptx, image, launch, resources


def archive(images):
    """Images end to end, each after its length, compressed as one."""
    import zstandard
    raw = b"".join(struct.pack("<I", len(image)) + image for image in images)
    return zstandard.ZstdCompressor(level=19, compression_params=None).compress(raw)


def main():
    args = argparse.ArgumentParser(description=__doc__)
    args.add_argument("crate", type=Path)
    args.add_argument("--only", default="")
    args.add_argument("--arch", type=int)
    args.add_argument("--jobs", type=int, default=os.cpu_count())
    args = args.parse_args()
    import triton
    import variants

    targets = [(arch, False) for arch in variants.ARCHITECTURES] + [(variants.PTX_ARCHITECTURE, True)]
    targets = [t for t in targets if args.arch in (None, t[0])]
    work = [(arch, v.name, ptx) for arch, ptx in targets for v in variants.all_of(arch, ptx) if args.only in v.name]
    results = {}
    with ProcessPoolExecutor(args.jobs) as pool:
        for (arch, name, ptx), result in zip(work, pool.map(compiled, *zip(*work), chunksize=1)):
            results[arch, ptx, name] = result
            print(f"{'ptx' if ptx else 'sm'}_{arch} {name}: {len(result[2])} bytes, {result[4]}", flush=True)
    if args.only:
        return
    out = args.crate / "carried"
    out.mkdir(exist_ok=True)
    blob, parts = io.BytesIO(), []
    for arch, ptx in targets:
        names = [v.name for v in variants.all_of(arch, ptx)]
        packed = archive([results[arch, ptx, n][2] for n in names])
        parts.append(dict(architecture=arch, ptx=ptx, start=blob.tell(), bytes=len(packed), kernels=[results[arch, ptx, n][3] for n in names]))
        blob.write(packed)
    (out / "kernels.zst").write_bytes(blob.getvalue())
    hashes = {p.relative_to(HERE).as_posix(): hashlib.sha256(p.read_bytes()).hexdigest() for p in SOURCES}
    manifest = dict(triton=triton.__version__, needs_cuda=12000, sources=hashes, archive=hashlib.sha256(blob.getvalue()).hexdigest(), parts=parts)
    (out / "manifest.json").write_text(json.dumps(manifest, separators=(",", ":")) + "\n")
    with open(out / "resources.csv", "w", newline="") as file:
        table = csv.writer(file, lineterminator="\n")
        table.writerow(["architecture", "kernel", "threads", "registers", "stack", "shared"])
        for (arch, ptx, name), (*_, r) in results.items():
            if not ptx:
                table.writerow([arch, name, r["threads"], r["registers"], r["stack"], r["shared"]])
    print(f"{len(results)} images, {len(blob.getvalue())} bytes")


if __name__ == "__main__":
    sys.path.insert(0, str(HERE))
    main()
