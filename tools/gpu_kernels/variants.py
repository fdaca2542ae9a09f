"""Every kernel that the program carries: its parameters and the shapes that it is compiled for."""
from dataclasses import dataclass, field

from kernels import attention, product, rows

ARCHITECTURES = (80, 86, 89, 90, 100, 120)
# Cards of other architectures compile this one's PTX themselves. Its version is that of the oldest driver that is supported.
PTX_ARCHITECTURE, PTX_VERSION = 80, 80

HALVES = {"f16": ("*fp16", 2.0**-11), "bf16": ("*bf16", 1.0)}
# Rows, columns and K of a tile, warps, stages. Shared memory is 227 KiB a block from 90 to 100, 163 on 80, 99 on the others.
# A thread's share of a tile and what follows the product fit its registers.
TILES = {
    80: (128, 128, 32, 8, 4),
    86: (128, 128, 32, 8, 3),
    89: (128, 128, 32, 8, 3),
    90: (128, 128, 64, 8, 3),
    100: (128, 128, 64, 8, 3),
    120: (128, 128, 32, 8, 3),
}
WIDTHS_OF_ROWS = (256, 1024, 4096, 8192)
WIDTHS_OF_HEADS = (32, 64, 128, 256)


@dataclass
class Variant:
    """One compiled function: `types` of its parameters in order, those in `aligned` multiples of 16 (or 4)."""

    name: str
    function: object
    types: dict
    constants: dict
    aligned: dict = field(default_factory=dict)
    warps: int = 4
    stages: int = 1
    # Whether products and sums may be contracted: not where a function is taken from itself, which must leave 0.
    fusion: bool = True

    @property
    def block(self):
        """What a caller must know to cut its work into programs."""
        return {k.lower(): v for k, v in self.constants.items() if k in ("BM", "BN", "BQ", "BR", "BH", "BD", "B")}


def parameters(text):
    """`name:type` words; `f` float32, `i` 32-bit integer, `*t` pointer to t."""
    names = {"f": "fp32", "i": "i32", "*f": "*fp32", "*i": "*i32", "*h": "*i16", "*d": "*fp64"}
    pairs = (word.split(":") for word in text.split())
    return {name: names.get(kind, kind) for name, kind in pairs}


def products(arch):
    for half, (pointer, lo) in HALVES.items():
        # Rows of float32 of a width that is no multiple of 4, which small models alone have, begin anywhere.
        for suffix, (bm, bn, bk, warps, stages) in (("", TILES[arch]), ("_odd", (64, 64, 64, 8 if arch == 120 else 4, 2))):
            tile = dict(LO=lo, BM=bm, BN=bn, BK=bk, GROUP=8)
            # More follows these products than fits beside a whole tile.
            narrow = tile | {"BN": bn // 2}
            parts = f"hi:{pointer} lo:{pointer} w:{pointer} w_lo:{pointer} "
            sizes = "M:i N:i K:i two:i pair:i scale:f ld_w:i "
            sixteen = dict.fromkeys(("hi", "lo", "w", "w_lo", "K", "ld_w"), 16)
            four = {} if suffix else {"ld_plain": 4}
            yield Variant(f"product_{half}{suffix}", product.product,
                          parameters(parts + "out:*f residual:*f source:*i " + sizes + "ld_out:i has_residual:i source_of:i"),
                          tile, sixteen | {"out": 16, "residual": 16} | ({} if suffix else {"ld_out": 4}), warps, stages)
            for act in ("sig", "erf"):
                constants = narrow | {"ERF": act == "erf"}
                outs = {"out_hi": 16, "out_lo": 16, "ld_out": 16, "plain": 16}
                tail = "ld_plain:i ld_out:i per_run:i a:f b:f"
                halves_out = f"out_hi:{pointer} out_lo:{pointer} "
                yield Variant(f"product_act_{half}_{act}{suffix}", product.product_act,
                              parameters(parts + halves_out + "plain:*f plain_of:*i " + sizes + tail), constants,
                              sixteen | outs | four, warps, stages, False)
                yield Variant(f"product_gate_{half}_{act}{suffix}", product.product_gate,
                              parameters(parts + halves_out + "plain:*f plain_of:*i plain_up:*f up:*f " + sizes + tail), constants,
                              sixteen | outs | {"plain_up": 16, "up": 16} | four, warps, stages, False)
    for stored, pointer in (("f32", "*fp32"), ("f16", "*fp16"), ("bf16", "*bf16"), ("pair", "*fp16")):
        yield Variant(f"product_f32_{stored}", product.product_f32,
                      parameters(f"x:*f w:{pointer} w_lo:{pointer} bias:*f out:*f residual:*f source:*i M:i N:i K:i scale:f ld_w:i "
                                 "has_bias:i has_residual:i source_of:i"),
                      dict(PAIR=stored == "pair", BM=64, BN=64, BK=16, GROUP=8), {"ld_w": 16, "w": 4, "w_lo": 4}, 8, 2)


def of_rows():
    for width in WIDTHS_OF_ROWS:
        warps = max(1, min(8, width // 512))
        yield Variant(f"norm_{width}", rows.norm,
                      parameters("out:*f x:*f gain:*f bias:*f width:i ld:i centred:i eps:f has_gain:i has_bias:i"), dict(BD=width),
                      warps=warps)
        yield Variant(f"norm_delta_{width}", rows.norm_delta,
                      parameters("out:*f hi:*h lo:*h plain:*f plain_of:*i delta:*f source:*i gain:*f per_run:i width:i ld_plain:i "
                                 "ld_delta:i ld_out:i centred:i eps:f has_gain:i has_source:i to:i add:i mode:i"),
                      dict(BD=width), {"hi": 16, "lo": 16}, warps=warps, fusion=False)
    yield Variant("rotate", rows.rotate,
                  parameters("x:*f cos:*f sin:*f position:*i per_run:i d_head:i ld:i half:i interleaved:i"), dict(BH=128), warps=1)
    yield Variant("cut", rows.cut, parameters("out:*f hi:*h lo:*h delta:*f source:*i width:i ld_out:i has_source:i mode:i"),
                  dict(B=1024), {"hi": 16, "lo": 16, "ld_out": 16})
    for act in ("sig", "erf"):
        yield Variant(f"activate_{act}", rows.activate, parameters("out:*f x:*f up:*f n:i a:f b:f has_up:i"),
                      dict(ERF=act == "erf", B=1024), dict.fromkeys(("out", "x", "up"), 16), fusion=False)
        yield Variant(f"activate_delta_{act}", rows.activate_delta,
                      parameters("out:*f plain:*f plain_of:*i delta:*f plain_up:*f up:*f n:i width:i per_run:i a:f b:f has_up:i"),
                      dict(ERF=act == "erf", B=1024), dict.fromkeys(("out", "delta", "up"), 16), fusion=False)
    yield Variant("add", rows.add, parameters("x:*f y:*f n:i"), dict(B=1024), dict.fromkeys(("x", "y"), 16))
    yield Variant("gather", rows.gather, parameters("out:*i x:*i source:*i width:i"), dict(B=1024))
    for width in WIDTHS_OF_HEADS:
        yield Variant(f"put_z_{width}", rows.put_z,
                      parameters("out:*f hi:*h lo:*h z:*f nodes:*i own:*i source:*i bias:*f means:*f mean_row:*i mean_step:*f sites:*i "
                                 "per_run:i d_head:i d_attn:i ld_out:i full:i mode:i"),
                      dict(BR=16, BH=width))
    yield Variant("dots", rows.dots, parameters("out:*d x:*f table:*f rows:*i entries:*i per_run:i width:i n_pairs:i"), dict(B=512))


def attentions():
    types = parameters("out:*f hi:*h lo:*h q:*f kv:*f z:*f dq:*f dkv:*f q_rows:*i nodes:*i key_from:*i key_count:*i keys:*i ends:*i "
                       "positions:*i own:*i per_run:i n_nodes:i d_head:i group:i d_attn:i d_kv:i ld_out:i scale:f cap:f window:i "
                       "has_delta:i full:i mode:i sites:*i source:*i bias:*f")
    for width in WIDTHS_OF_HEADS:
        for again in (False, True):
            keys = 32 if width <= 128 else 16
            yield Variant(f"attend{'_again' * again}_{width}", attention.attend, types, dict(BQ=16, BK=keys, BH=width, AGAIN=again),
                          warps=min(8, width // 16))


def all_of(arch):
    """All variants for an architecture, as a list whose names are the same for all architectures."""
    return [*products(arch), *of_rows(), *attentions()]
