"""What several kernels share: cutting a difference up, and activations."""
import triton
import triton.language as tl

# How an output is written (argument `mode`). The second half of float16 is 2^11 times what the first leaves.
F32, F16, BF16, F16_ONE, BF16_ONE = range(5)


@triton.jit
def put(out, hi, lo, at, d, mask, mode):
    """Writes `d`: float32 to `out`, or cut up into the bits of one or two halves to `hi` and `lo`."""
    if mode == 0:
        tl.store(out + at, d, mask=mask)
    elif (mode == 1) | (mode == 3):
        half = d.to(tl.float16)
        tl.store(hi + at, half.to(tl.int16, bitcast=True), mask=mask)
        if mode == 1:
            rest = ((d - half.to(tl.float32)) * 2048.0).to(tl.float16)
            tl.store(lo + at, rest.to(tl.int16, bitcast=True), mask=mask)
    else:
        brain = d.to(tl.bfloat16)
        tl.store(hi + at, brain.to(tl.int16, bitcast=True), mask=mask)
        if mode == 2:
            left = (d - brain.to(tl.float32)).to(tl.bfloat16)
            tl.store(lo + at, left.to(tl.int16, bitcast=True), mask=mask)


@triton.jit
def activation(x, a, b, ERF: tl.constexpr):
    """Exact GELU if ERF; otherwise x sigmoid(a x + b x^3): GELU by tanh, SiLU, and ReLU as the limit of a large a."""
    if ERF:
        return 0.5 * x * (1.0 + tl.erf(x * 0.7071067811865476))
    else:
        return x / (1.0 + tl.exp(-(a + b * x * x) * x))
