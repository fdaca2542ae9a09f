"""Every kernel that the program carries: its parameters and the shapes that it is compiled for."""
from dataclasses import dataclass, field

from kernels import attention, product, rows

ARCHITECTURES = (80, 86, 89, 90, 100, 120)
# Cards of other architectures compile this one's PTX themselves. Its version is that of the oldest driver that is supported.
PTX_ARCHITECTURE, PTX_VERSION = 80, 80

HALVES = {"f16": ("*fp16", 2.0**-11), "bf16": ("*bf16", 1.0)}


@dataclass(frozen=True)
class Tile:
    """Rows, columns and K of a product's tile, and how it is computed."""

    bm: int
    bn: int
    bk: int
    warps: int
    stages: int
    # In how many parts what follows the product is done.
    pieces: int

    @property
    def name(self):
        return f"{self.bm}x{self.bn}x{self.bk}"


# Candidates, the first where none has been timed: `crates/cuda/carried/tiles.csv` says which of them is used for what. Shared memory is
# 227 KiB a block from 90 to 100, 163 on 80, 99 on the others; a thread's share of a tile and what follows the product fit its registers.
HOPPER = (Tile(128, 256, 64, 8, 3, 4), Tile(128, 128, 64, 4, 3, 4), Tile(256, 128, 64, 8, 3, 4), Tile(64, 128, 64, 4, 4, 4))
SMALL = (Tile(128, 128, 32, 8, 4, 2), Tile(64, 128, 32, 4, 4, 2))
PLAIN = {
    80: (Tile(128, 128, 32, 8, 4, 2), Tile(128, 256, 32, 8, 3, 8), Tile(64, 128, 32, 4, 4, 2)),
    86: SMALL,
    89: SMALL,
    90: HOPPER,
    100: HOPPER,
    120: SMALL,
}
# More follows the products of hidden layers.
HIDDEN = {
    80: (Tile(128, 128, 32, 8, 4, 4), Tile(64, 128, 32, 4, 4, 4)),
    86: (Tile(128, 64, 32, 8, 4, 1),),
    89: (Tile(128, 64, 32, 8, 4, 1),),
    90: (Tile(128, 128, 64, 8, 3, 4), Tile(64, 128, 64, 4, 4, 4)),
    100: (Tile(128, 128, 64, 8, 3, 4), Tile(64, 128, 64, 4, 4, 4)),
    120: (Tile(128, 64, 32, 8, 4, 1),),
}
# Where rows of float32 begin anywhere, which small models alone have.
ODD = Tile(64, 64, 64, 8, 2, 1)
WIDTHS_OF_ROWS = (256, 1024, 2048, 4096, 8192)
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
    # Whether products and sums may be contracted: not where a function is taken from itself, which must leave 0, nor where all tiles
    # of a product must give the same bits.
    fusion: bool = True
    # Of a thread at most, where the assembler would spill a few for the sake of more programs side by side.
    registers: int | None = None

    @property
    def block(self):
        """What a caller must know to cut its work into programs."""
        return {k.lower(): v for k, v in self.constants.items() if k in ("BM", "BN", "BQ", "BR", "BH", "BD", "B")}


def parameters(text):
    """`name:type` words; `f` float32, `i` 32-bit integer, `*t` pointer to t."""
    names = {"f": "fp32", "i": "i32", "*f": "*fp32", "*i": "*i32", "*h": "*i16", "*d": "*fp64"}
    pairs = (word.split(":") for word in text.split())
    return {name: names.get(kind, kind) for name, kind in pairs}


def products(arch, ptx):
    for half, (pointer, lo) in HALVES.items():
        parts = f"hi:{pointer} lo:{pointer} w:{pointer} w_lo:{pointer} "
        sizes = "M:i N:i K:i two:i pair:i scale:f ld_w:i "
        sixteen = dict.fromkeys(("hi", "lo", "w", "w_lo", "K", "ld_w"), 16)

        def variant(name, tile, function, types, aligned, **constants):
            shape = dict(LO=lo, BM=tile.bm, BN=tile.bn, BK=tile.bk, GROUP=8, PIECES=tile.pieces)
            return Variant(name, function, types, constants | shape, sixteen | aligned, tile.warps, tile.stages, False)

        def tiled(name, tiles, *rest, **constants):
            return (variant(f"{name}_{tile.name}", tile, *rest, **constants) for tile in tiles[:1 if ptx else None])

        types = parameters(parts + "out:*f residual:*f source:*i " + sizes + "ld_out:i has_residual:i source_of:i")
        outs = dict(out=16, residual=16)
        yield from tiled(f"product_{half}", PLAIN[arch], product.product, types, outs | dict(ld_out=4, N=4))
        yield variant(f"product_{half}_odd", ODD, product.product, types, outs)
        for act in ("sig", "erf"):
            outs = dict(out_hi=16, out_lo=16, ld_out=16, plain=16, ld_plain=4, N=4)
            tail = "ld_plain:i ld_out:i per_run:i a:f b:f"
            halves_out = f"out_hi:{pointer} out_lo:{pointer} "
            # The first tile alone where no model that is common has such halves or such a gate.
            types = parameters(parts + halves_out + "plain:*f plain_of:*i " + sizes + tail)
            yield from tiled(f"product_act_{half}_{act}", HIDDEN[arch][:None if half == "f16" else 1], product.product_act, types, outs,
                             ERF=act == "erf")
            types = parameters(parts + halves_out + "plain:*f plain_of:*i plain_up:*f up:*f " + sizes + tail)
            yield from tiled(f"product_gate_{half}_{act}", HIDDEN[arch][:None if act == "sig" else 1], product.product_gate, types,
                             outs | dict(plain_up=16, up=16), ERF=act == "erf")
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
                  parameters("x:*f cos:*f sin:*f position:*i per_run:i pairs:i d_head:i ld:i half:i interleaved:i"), dict(B=512))
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


def attentions(arch, ptx):
    types = parameters("out:*f hi:*h lo:*h q:*f kv:*f z:*f dq:*f dkv:*f q_rows:*i nodes:*i key_from:*i key_count:*i keys:*i ends:*i "
                       "positions:*i own:*i per_run:i n_nodes:i d_head:i group:i d_attn:i d_kv:i ld_out:i scale:f cap:f window:i "
                       "has_delta:i full:i mode:i sites:*i source:*i bias:*f")
    aligned = dict.fromkeys(("out", "hi", "lo", "q", "kv", "z", "dq", "dkv"), 16) | dict.fromkeys(("d_head", "d_attn", "d_kv", "ld_out"), 4)
    def variant(kind, width, main, tail, warps, aligned):
        constants = dict(BQ=16, BK=32, BH=main, TAIL=tail, BC=16, AGAIN=kind == "again_")
        # Assemblers of all ages and cards are to spill nothing of PTX.
        registers = 255 if ptx else 168 if (arch, kind, width) == (120, "", 80) else None
        if ptx and (kind, width) == ("again_", 128):
            warps = 8
        return Variant(f"attend_{kind}{width}", attention.attend, types, constants, aligned, warps, registers=registers)

    # A width of common models that is no power of two: 64 columns and what is left.
    for width, main, tail, warps in ((32, 32, 0, 2), (64, 64, 0, 4), (80, 64, 16, 4), (128, 128, 0, 4), (256, 256, 0, 8)):
        yield variant("", width, main, tail, warps, aligned)
        # Heads whose width is no multiple of 4 are small models' alone, heads attended to again few.
        if width in WIDTHS_OF_HEADS:
            yield variant("odd_", width, main, tail, warps, {})
            yield variant("again_", width, main, tail, max(warps, 4), {})


def all_of(arch, ptx=False):
    """All variants for an architecture. Their names are the same for all, but for products' tiles."""
    return [*products(arch, ptx), *of_rows(), *attentions(arch, ptx)]
