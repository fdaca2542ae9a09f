"""Assembles the PTX that the program carries as drivers would, for cards that have no machine code of their own: `python check_ptx.py CARRIED`.

The oldest and a new assembler must take all of it, without spilling registers.
"""
import json
import os
import re
import struct
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import zstandard

# Packages of assemblers, and the architectures to assemble for: those of the oldest cards and of others that each knows.
ASSEMBLERS = {"nvidia-cuda-nvcc-cu12==12.0.140": (80, 90), "nvidia-cuda-nvcc==13.5.37": (90, 120, 121)}


def images(carried):
    """Name and text of every kernel in PTX."""
    manifest = json.loads((carried / "manifest.json").read_text())
    part = next(part for part in manifest["parts"] if part["ptx"])
    packed = (carried / "kernels.zst").read_bytes()[part["start"]:part["start"] + part["bytes"]]
    raw = zstandard.ZstdDecompressor().stream_reader(packed).read()
    for kernel in part["kernels"]:
        (size,) = struct.unpack_from("<I", raw)
        yield kernel["name"], raw[4:4 + size].rstrip(b"\0")
        raw = raw[4 + size:]


def main():
    carried = Path(sys.argv[1])
    with tempfile.TemporaryDirectory() as folder:
        folder, work = Path(folder), []
        for package, architectures in ASSEMBLERS.items():
            target = folder / package.partition("==")[2]
            subprocess.run([sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", target, package], check=True)
            ptxas = next(target.rglob("ptxas"))
            ptxas.chmod(0o755)
            work += [(ptxas, package, arch, name, text) for name, text in images(carried) for arch in architectures]

        def assembled(item):
            ptxas, package, arch, name, text = item
            done = subprocess.run([ptxas, "-v", f"-arch=sm_{arch}", "-o", os.devnull, "-"], input=text, capture_output=True)
            said = done.stderr.decode()
            spilled = sum(int(n) for n in re.findall(r"(\d+) bytes (?:stack frame|spill)", said))
            return None if done.returncode == 0 and not spilled else f"{package}, sm_{arch}, {name}: {said.strip()[-300:]}"

        with ThreadPoolExecutor(os.cpu_count()) as pool:
            wrong = [said for said in pool.map(assembled, work) if said]
    print("\n".join(wrong) or f"{len(work)} assembled, nothing spills")
    return bool(wrong)


if __name__ == "__main__":
    sys.exit(main())
