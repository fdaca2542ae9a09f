#!/usr/bin/env python3
"""Expected times of scans of all heads on an H200, from the operations and memory traffic of each kernel, next to measured times.

    python roofline.py [gpt2] [gpt2-xl] [pythia-2.8b] [llama-3.1-8b]
    python roofline.py gpt2 --measured times.txt

`times.txt` is what a scan of `scan-times` prints with CIRCUIT_SCALING_CUDA_TIMES=1. Forests are of prompts like those of
`crates/engine/examples/card.rs`. Bytes are those that must come from or go to the card's memory: what all runs share (weights, the plain
run) stays in its cache.
"""
import argparse
import random
import re
from collections import defaultdict

# An H200: bytes a second; operations a second of products in two parts that Triton kernels have reached, of one float32 product.
MEMORY, TWO_PARTS = 4.8e12, 300e12
# Not measured with these kernels: shares of the card's memory and float32 rates that simple kernels, products without tensor cores
# and attention reach. Attention's is that of the prototype (`shared/gpu`), in tiles of as many queries and keys.
OF_MEMORY, FLOAT32, ATTENTION = 0.8, 12e12, 4e12
QUERIES, KEYS = 16, 32

# layers, model, heads, key heads, head, hidden, gate, parts of a product, pairs turned, parallel; seconds and share that issue 16 allows
SHAPES = {
    "gpt2": (12, 768, 12, 12, 64, 3072, False, 3, 0, False, 1.5, 0.35),
    "gpt2-xl": (48, 1600, 25, 25, 64, 6400, False, 3, 0, False, 16, 0.15),
    "pythia-2.8b": (32, 2560, 32, 32, 80, 10240, False, 2, 10, True, 25, 0.15),
    "llama-3.1-8b": (32, 4096, 32, 8, 128, 14336, True, 2, 64, False, 75, 0.15),
}
TASKS = {"ioi": (200, [1, 1, 15, 1, 15, 1, 1, 1, 1, 1, 0, 1, 1, 1, 1]), "anti-repeat": (400, [1, 12, 1, 12, 1, 1, 0, 1, 1])}
# Kernels by how their names begin, as they are counted.
KINDS = [("product_f32", "plain run"), ("product_", "products"), ("norm_delta", "norms"), ("attend", "attention"), ("rotate", "rotation"),
         ("", "rest")]


class Forest:
    """Nodes of prompts that share beginnings, in depth-first order."""

    def __init__(self, n, form):
        draw, root, self.paths, ends = random.Random(7), {}, [], set()
        for _ in range(n):
            at, first = root, None
            for place, choices in enumerate(form):
                token = first if choices == 0 else 7 + place if choices == 1 else 100 + draw.randrange(choices)
                first = token if choices > 1 and first is None else first
                at = at.setdefault(token, {})
        self.walk(root, [], ends)
        self.nodes, self.ends = len(self.paths), len(ends)
        # Blocks of keys that a tile of neighbouring queries goes through.
        tiles = [set().union(*self.paths[i:i + QUERIES]) for i in range(0, self.nodes, QUERIES)]
        self.blocks = [-(-len(keys) // KEYS) for keys in tiles]
        self.keys = [len(keys) for keys in tiles]

    def walk(self, children, path, ends):
        for below in children.values():
            node = len(self.paths)
            self.paths.append([*path, node])
            if not below:
                ends.add(node)
            self.walk(below, self.paths[node], ends)


def padded(width):
    return -(-width // 64) * 64


def layer(shape, forest, rows_kv, rows, is_start=False):
    """Seconds by kind that one run takes in a layer: keys and values of `rows_kv` nodes, all else of `rows`."""
    _, d, heads, kv_heads, d_head, m, gate, parts, turned, _, *_ = shape
    a, kv = heads * d_head, kv_heads * d_head
    seconds = defaultdict(float)

    def product(rows, k, n, read=0, written=None):
        moved = rows * (4 * padded(k) + read + (4 * n if written is None else written))
        seconds["products"] += max(2 * rows * k * n * parts / 2 / TWO_PARTS, moved / MEMORY)

    def moves(kind, count):
        seconds[kind] += count / (MEMORY * OF_MEMORY)

    if is_start:
        moves("rest", rows * 4 * padded(a))
    else:
        moves("norms", rows_kv * (4 * d + 4 * padded(d)))
        product(rows, d, a)
        product(rows_kv, d, 2 * kv)
        moves("rotation", 16 * turned * (rows * heads + rows_kv * kv_heads))
        tiles = rows / QUERIES
        wide = 1 << (d_head - 1).bit_length()
        of_tile = sum((2 if b > 1 else 1) * d_head * b + (wide + 1) * b for b in forest.blocks) / len(forest.blocks)
        operations = tiles * heads * 2 * QUERIES * KEYS * of_tile
        moved = rows * (4 * a + 4 * padded(a)) + rows_kv * 8 * kv
        seconds["attention"] += max(operations / ATTENTION, moved / MEMORY / OF_MEMORY)
    product(rows, a, d, read=4 * d)
    moves("norms", rows * (4 * d + 4 * padded(d)))
    if gate:
        product(rows, d, m)
    product(rows, d, m, read=4 * m if gate else 0, written=4 * padded(m))
    product(rows, m, d, read=4 * d)
    return seconds


def scan(shape, forest):
    """Seconds by kind of all heads of a model."""
    n_layers, d, heads, kv_heads, d_head, m, gate = shape[:7]
    total = defaultdict(float)
    per_node = 2 * d * (2 * heads * d_head + 2 * kv_heads * d_head + (3 if gate else 2) * m)
    total["plain run"] = n_layers * forest.nodes * per_node / FLOAT32
    steps = defaultdict(int)
    for first in range(n_layers):
        is_last = first + 1 == n_layers
        steps["start", forest.ends if is_last else forest.nodes] += heads
        if not is_last:
            steps["later", forest.nodes] += heads * (n_layers - first - 2)
            steps["later", forest.ends] += heads
    for (kind, rows), runs in steps.items():
        for name, seconds in layer(shape, forest, forest.nodes, rows, kind == "start").items():
            total[name] += runs * seconds
    return total


def measured(path):
    total = defaultdict(float)
    for line in open(path):
        found = re.match(r"(\w+) +\d+ launches +([\d.]+) s", line)
        if found:
            total[next(kind for start, kind in KINDS if found[1].startswith(start))] += float(found[2])
    return total


def main():
    args = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    args.add_argument("shapes", nargs="*")
    args.add_argument("--measured")
    args = args.parse_args()
    forests = {task: Forest(*prompts) for task, prompts in TASKS.items()}
    for task, f in forests.items():
        one = sum(b == 1 for b in f.blocks) / len(f.blocks)
        print(f"{task}: {f.nodes} nodes, {f.ends} ends; {QUERIES} queries see {sum(f.keys) / len(f.keys):.1f} keys, at most {max(f.keys)}; "
              f"{KEYS} are enough for {100 * one:.0f}% of tiles")
    for name in args.shapes or SHAPES:
        shape = SHAPES[name]
        found = measured(args.measured) if args.measured else None
        total = defaultdict(float)
        for forest in forests.values():
            for kind, seconds in scan(shape, forest).items():
                total[kind] += seconds
        whole, other = sum(total.values()), sum(s for kind, s in total.items() if kind != "products")
        limit, share = shape[-2:]
        print(f"\n{name}: {whole:.2f} s, issue 16 allows {limit}; not products {100 * other / whole:.0f}%, allowed {100 * share:.0f}%")
        for kind, seconds in sorted(total.items(), key=lambda item: -item[1]):
            beside = f"; measured {found[kind]:8.3f} s {100 * found[kind] / max(sum(found.values()), 1e-9):5.1f}%" if found else ""
            print(f"    {kind:10} {seconds:8.3f} s {100 * seconds / whole:5.1f}%{beside}")


if __name__ == "__main__":
    main()
