"""The compiled module: bindings.cpp."""

from collections.abc import Callable, Sequence
from typing import Any

import mlx.core as mx

built_for: str
"""The version of MLX whose headers it was compiled with."""
runs_on: str
"""The version of MLX's library in this process."""

def smoke(x: mx.array) -> mx.array:
    """`x + 1`: proves that arrays can be passed in both directions."""

def level() -> str:
    """The instruction set in force. $GLASSCHAT_CPU names a lower one than the processor's best."""

def supported_levels() -> list[str]:
    """Instruction sets of this processor, the plainest first; each includes those before it."""

def set_level(name: str) -> None:
    """Raises ValueError where `name` is none of `supported_levels()`."""

def threads() -> int:
    """Threads that kernels run on, the calling one included; $GLASSCHAT_THREADS sets them."""

def set_threads(count: int) -> None:
    """Waits for a kernel that runs now. Raises ValueError outside of 1 to 1024."""

def read_bandwidth(bytes: int, passes: int) -> float:
    """Bytes a second that all threads read of a buffer of so many bytes, the best of several passes over it.

    Raises ValueError for less than a megabyte and for no pass.
    """

def float_peak() -> float:
    """Multiplications and additions of float32 a second, each counted as one, that all threads do in registers."""

def bf16_peak() -> float:
    """The same of bfloat16 into float32; of float32 where the processor has no instruction for it."""

def int8_peak() -> float:
    """The same of bytes into int32."""

class PackedMatrix:
    """A weight matrix [O, I] in the order in memory that the kernels read, with its layer's bias; cpu/packing.h."""

    shape: tuple[int, int]
    bits: int
    """Of an element: 4 or 8 if quantized, else 16 or 32."""
    group_size: int
    """Columns that share a scale; 0 for floats."""
    nbytes: int

def pack(weight: mx.array, bias: mx.array | None = None) -> PackedMatrix:
    """Pack floats [O, I]; `bias` [O] is the layer's. Raises ValueError for another shape or type."""

def pack_quantized(
    words: mx.array, scales: mx.array, biases: mx.array, bits: int, group_size: int, bias: mx.array | None = None
) -> PackedMatrix:
    """Pack MLX's affine quantization: words [O, I * bits / 32], scales and biases [O, I / group_size].

    Raises ValueError for shapes and types that do not belong together, and for bits other than 4 and 8.
    """

def unpack(matrix: PackedMatrix, ids: mx.array | None = None) -> tuple[mx.array, mx.array, mx.array]:
    """What was packed: elements, scales and biases (empty for floats), of all rows or of rows `ids`.

    Raises ValueError for an id that is no row.
    """

def take_rows(matrix: PackedMatrix, ids: mx.array, dtype: mx.Dtype) -> mx.array:
    """Rows `ids` [T] as floats [T, I], computed at once. Raises ValueError for an id that is no row."""

def packed_linear(x: mx.array, matrix: PackedMatrix) -> mx.array:
    """x [..., I] times the matrix plus the layer's bias: [..., O] in x's type; sums are in float32.

    Raises ValueError for an x of another width or of no float type.
    """

def bfloat16_linear(x: mx.array, matrix: PackedMatrix) -> mx.array:
    """The same with x rounded to bfloat16. Raises ValueError like `packed_linear`."""

def int8_linear(x: mx.array, matrix: PackedMatrix) -> mx.array:
    """The same with x rounded to int8, with a scale for each of the matrix' groups in each row.

    Raises ValueError like `packed_linear`, and for a matrix that is not quantized.
    """

def expert_linear(x: mx.array, experts: Sequence[PackedMatrix], chosen: mx.array, activations: str) -> mx.array:
    """x [T, I], each row times the matrices [O, I] of the experts that `chosen` [T, K] names: [T, K, O] in x's type.

    `activations` are exact, or rounded to bfloat16 or int8 first. Raises ValueError for shapes and types that do not
    belong together. What is chosen but no expert gives rows of NaN.
    """

class Layout:
    """Where the tokens of a step stand: B sequences one after another, each with a row of the block table."""

    def __init__(
        self,
        query_lens: Sequence[int],
        context_lens: Sequence[int],
        tables: Sequence[int],
        width: int,
        block_size: int,
    ) -> None:
        """`tables` [B, width] is row after row. Raises ValueError for what no step may be."""

def write_kv(store: Sequence[mx.array], rows: mx.array, layout: Layout) -> mx.array:
    """The store's first array [N, P, H, D] with rows [T, H, D] in the slots of the step's tokens.

    A store is one array of floats, or words, scales and biases of integers in groups of 32. Floats are written in place
    if nothing else holds them, and the others whoever does.

    Raises ValueError for shapes that do not belong together and for a block that the pool does not have.
    """

def paged_attention(
    q: mx.array, keys: Sequence[mx.array], values: Sequence[mx.array], layout: Layout, scale: float
) -> mx.array:
    """Attention of q [T, H_q, D] over the pool's keys and values [N, P, H, D]: [T, H_q, D]. Raises ValueError."""

def rms_norm(x: mx.array, weight: mx.array, eps: float) -> mx.array:
    """x [T, E] over the root of its mean square, times weight [E]. Raises ValueError for other shapes and types."""

def add_rms_norm(x: mx.array, added: mx.array, weight: mx.array, eps: float) -> tuple[mx.array, mx.array]:
    """The normalized sum of x and `added`, both [T, E], and that sum. Raises ValueError for other shapes and types."""

def rope(x: mx.array, positions: mx.array, theta: float) -> mx.array:
    """x [T, H, D] turned by positions [T]. Raises ValueError for other shapes and types, and an odd D."""

def silu_mul(gate: mx.array, up: mx.array) -> mx.array:
    """`gate * sigmoid(gate) * up`, all [T, I]. Raises ValueError for other shapes and types."""

def largest(x: mx.array, count: int) -> mx.array:
    """Ids [R, count] of the largest numbers of each row of x [R, V] float32, the largest first, ties by id.

    Raises ValueError for another shape or type, and for a count outside of 1 to V.
    """

def greedy(x: mx.array) -> mx.array:
    """Id [R] of the largest of each row of x [R, V] float32, the lowest of equal ones; V where it is not finite or a
    number of the row is NaN. Raises ValueError for another shape or type."""

def draw(x: mx.array, rows: Sequence[tuple[float, float, int, float, int]]) -> mx.array:
    """Id [R] of a token drawn from each row of x [R, V] float32, on the CPU; V as of `greedy`.

    A row's numbers are temperature, min_p, top_k (0: all), top_p and the 64-bit key of its noise. Raises ValueError for
    another shape or type, and for numbers out of their range.
    """

class PackedLayer:
    """A decoder layer's matrices and norms, as `decoder_layer` takes them."""

def pack_layer(
    attention_norm: mx.array,
    qkv: Sequence[PackedMatrix],
    out: PackedMatrix,
    mlp_norm: mx.array,
    gate_up: Sequence[PackedMatrix],
    down: PackedMatrix,
    heads: int,
    kv_heads: int,
    size: int,
    theta: float,
    eps: float,
) -> PackedLayer:
    """A Qwen2 layer with heads of `size`. Nothing is copied but the norms [E].

    Outputs of `qkv` (queries, keys, values) stand side by side, and those of `gate_up`, from one matrix or several.
    Raises ValueError for shapes that do not belong together.
    """

def decoder_layer(
    x: mx.array,
    layer: PackedLayer,
    keys: Sequence[mx.array],
    values: Sequence[mx.array],
    layout: Layout,
    activations: str,
) -> mx.array:
    """x [T, E] through a layer: its output [T, E].

    Once that is evaluated, the arrays of keys and values hold this step's: they are written in place. `activations` are
    exact, or rounded to bfloat16 or int8 before they meet a matrix. Raises ValueError like write_kv.
    """

def gpu_in_use() -> bool:
    """Whether operations go to a Metal GPU: rms_norm, add_rms_norm, rope, silu_mul, largest, greedy, write_kv and
    paged_attention then run there, and so do quantized_linear, gather_quantized_linear and gpu_draw, which raise
    ValueError elsewhere."""

def metal_kernels_in(directory: str, library: str) -> None:
    """Where the sources of the Metal kernels are, and a library that was made of them before, or an empty string."""

def metal_library() -> str:
    """The path of the library of compiled kernels in use; empty where they are compiled when they are first used."""

def run_launches_by(run: Callable[[MetalLaunch, list[tuple[Any, bool]]], None] | None) -> None:
    """Operations go to `run` in place of a GPU, which gets each launch with its buffers: their bytes, as numpy arrays
    of uint8, and whether the kernel writes them. It is called from another thread, and must not raise.
    None ends that."""

def quantized_linear(
    x: mx.array,
    words: mx.array,
    scales: mx.array,
    biases: mx.array,
    bits: int,
    group_size: int,
    bias: mx.array | None = None,
) -> mx.array:
    """x [..., I] times a matrix [O, I] in MLX's affine quantization, plus its bias [O]: [..., O]. All of x's type.

    Raises ValueError for shapes and types that do not belong together.
    """

def gather_quantized_linear(
    x: mx.array,
    words: mx.array,
    scales: mx.array,
    biases: mx.array,
    bits: int,
    group_size: int,
    experts: mx.array,
    sources: mx.array,
) -> mx.array:
    """Row r of [R, O] is row sources[r] of x [T, I] times matrix experts[r] of several [experts, O, I].

    Many rows take less time where those of one expert stand together. Raises ValueError like quantized_linear.
    """

def gpu_draw(x: mx.array, listed: mx.array | None, keys: mx.array, temperatures: mx.array) -> mx.array:
    """Of each row of x [R, V] the id, uint32 [R], whose logit / temperature + noise is largest: of all, or of `listed`
    [R, n] uint32. V where the largest is not finite or a candidate is NaN.

    `keys` [R, 2] uint32 are the low and the high half of what the noise is made from, `temperatures` [R] float32.
    Raises ValueError like quantized_linear.
    """

class MetalLaunch:
    """How a kernel is launched: metal/launches.h."""

    file: str
    """In metal/, without its ending."""
    kernel: str
    groups: tuple[int, int, int]
    threads: tuple[int, int, int]
    """Of a threadgroup."""
    constants: dict[int, bool | int]
    """Function constants by their index."""
    params: bytes
    """The kernel's struct of metal/params.h, its last buffer."""

def launch_on_gpu(launch: MetalLaunch, type: str, arrays: Sequence[mx.array], written: Sequence[int]) -> None:
    """Runs a launch on the very memory of its arrays, without its params, and waits for it. `type` is that of the
    activations; `written` are the places of the arrays that the kernel writes. Raises ValueError where no GPU is in
    use, and RuntimeError for what it refuses."""

class MetalQuantizedPlan:
    multiply: MetalLaunch
    splits: int
    """With more than one, `multiply` writes floats [splits, rows, outputs], and `sum` follows."""
    sum: MetalLaunch | None

class MetalAttentionPlan:
    tiles: list[tuple[int, int]]
    """The sequence and its first row, for each."""
    attend: MetalLaunch
    decodes: bool
    rows: int
    """Of a tile."""
    splits: int
    """With more than one, `attend` leaves its parts, and `merge` follows."""
    merge: MetalLaunch | None

class MetalLaunches:
    """The launch table of the Metal kernels. Types are f32, f16 and bf16; everything raises ValueError for what its
    kernel is not made for. The buffers are described in metal/launches.h."""

    @staticmethod
    def quantized(
        type: str,
        bits: int,
        group: int,
        rows: int,
        outputs: int,
        inputs: int,
        bias: bool = False,
        gather: bool = False,
    ) -> MetalQuantizedPlan: ...
    @staticmethod
    def attention(
        type: str,
        kept: str,
        heads: int,
        kv_heads: int,
        size: int,
        block_size: int,
        table_width: int,
        query_stride: int,
        scale: float,
        query_lens: Sequence[int],
        context_lens: Sequence[int],
    ) -> list[MetalAttentionPlan]:
        """`kept` is float, int8 or int4."""
    @staticmethod
    def copy(bytes: int) -> MetalLaunch: ...
    @staticmethod
    def gather(item_bytes: int, shape: Sequence[int], strides: Sequence[int], first: int) -> MetalLaunch: ...
    @staticmethod
    def write_kv(type: str, pool: str, tokens: int, width: int, stride: int) -> MetalLaunch:
        """`pool` is a type, int8 or int4."""
    @staticmethod
    def rms_norm(type: str, rows: int, width: int, stride: int, eps: float, add: bool) -> MetalLaunch: ...
    @staticmethod
    def rope(type: str, tokens: int, heads: int, size: int, stride: int, theta: float) -> MetalLaunch: ...
    @staticmethod
    def swiglu(type: str, rows: int, width: int, gate_stride: int, up_stride: int) -> MetalLaunch: ...
    @staticmethod
    def argmax(rows: int, width: int, count: int, draw: bool, listed: bool) -> MetalLaunch: ...
    @staticmethod
    def largest(rows: int, width: int, count: int) -> MetalLaunch: ...
    @staticmethod
    def source(directory: str, file: str, type: str) -> str:
        """The text that is compiled for activations of a type, in one piece. Raises RuntimeError."""
