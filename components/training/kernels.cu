// What weights.py computes, in one pass over memory each. A warp works on one block of 256 entries that share a scale,
// a thread on 8 of them. `numbers` are those of Update.on_gpu.
typedef unsigned char u8;
typedef unsigned short u16;
typedef unsigned int u32;

enum { GRADIENT_SCALE, BETA1, BETA2, CORRECTION1, CORRECTION2, EPS, LEARNING_RATE, WEIGHT_DECAY };

const int PER_THREAD = 8;
const float LARGEST_CODE = 32767.0f;
const int FIRST_OFFSET = 1016 - 127, SECOND_OFFSET = 1016 - 255;
const float SMALLEST_FIRST = 1.25f / 65536.0f;

template <typename T, int N> struct alignas(sizeof(T) * N) Vector { T at[N]; };
typedef Vector<u16, PER_THREAD> Halves;
typedef Vector<u8, PER_THREAD> Bytes;

// Whole vectors where the tensor has them, single entries at its end. Codes and moments are padded to whole blocks.
__device__ Halves load(const u16* from, int first, int count) {
    if (first + PER_THREAD <= count) return *reinterpret_cast<const Halves*>(from + first);
    Halves halves = {};
    for (int i = 0; i < PER_THREAD; i++) if (first + i < count) halves.at[i] = from[first + i];
    return halves;
}

__device__ void store(u16* to, const Halves& halves, int first, int count) {
    if (first + PER_THREAD <= count) *reinterpret_cast<Halves*>(to + first) = halves;
    else for (int i = 0; i < PER_THREAD; i++) if (first + i < count) to[first + i] = halves.at[i];
}

__device__ float from_bfloat16(u16 bits) { return __uint_as_float((u32)bits << 16); }

__device__ u16 to_bfloat16(float value) {
    u32 bits = __float_as_uint(value);
    if (value != value) return 0x7fc0;
    return (bits + 0x7fff + ((bits >> 16) & 1)) >> 16;  // to the nearest, ties to even
}

__device__ u32 random_bits(u32 seed, u32 place) {
    u32 bits = place * 0x9E3779B9u + seed;
    bits = (bits ^ (bits >> 16)) * 0x7FEB352Du;
    bits = (bits ^ (bits >> 15)) * 0x846CA68Bu;
    return bits ^ (bits >> 16);
}

__device__ float warp_max(float value) {
    for (int offset = 16; offset > 0; offset /= 2) value = fmaxf(value, __shfl_xor_sync(0xffffffffu, value, offset));
    return value;
}

__device__ float inverse(float scale) { return scale > 0 ? 1 / scale : 0.0f; }

extern "C" __global__ void values(const u16* codes, const float* scales, u16* result, int count) {
    int first = (blockIdx.x * blockDim.x + threadIdx.x) * PER_THREAD;
    if (first >= count) return;
    float scale = scales[first / 256] / LARGEST_CODE;
    Halves halves = *reinterpret_cast<const Halves*>(codes + first);
    for (int i = 0; i < PER_THREAD; i++) halves.at[i] = to_bfloat16((short)halves.at[i] * scale);
    store(result, halves, first, count);
}

// As values; columns from `first_column` on are multiplied by their row's scale.
extern "C" __global__ void scaled_values(const u16* codes, const float* scales, u16* result, int count,
                                         const float* row_scales, int columns, int first_column) {
    int first = (blockIdx.x * blockDim.x + threadIdx.x) * PER_THREAD;
    if (first >= count) return;
    float scale = scales[first / 256] / LARGEST_CODE;
    int row = first / columns, column = first % columns;
    Halves halves = *reinterpret_cast<const Halves*>(codes + first);
    for (int i = 0; i < PER_THREAD; i++) {
        float value = (short)halves.at[i] * scale;
        if (column >= first_column && first + i < count) value *= row_scales[row];
        halves.at[i] = to_bfloat16(value);
        if (++column == columns) { column = 0; row++; }
    }
    store(result, halves, first, count);
}

// A block for each row: the gradient of its scale is the product of the weight and the gradient of the scaled weight.
extern "C" __global__ void scale_gradients(const u16* codes, const float* scales, u16* gradient,
                                           const float* row_scales, float* scale_gradient, int columns,
                                           int first_column) {
    __shared__ float sums[32];
    int row = blockIdx.x;
    float row_scale = row_scales[row], sum = 0;
    for (int column = first_column + threadIdx.x; column < columns; column += blockDim.x) {
        int place = row * columns + column;
        float g = from_bfloat16(gradient[place]);
        sum += (short)codes[place] * (scales[place / 256] / LARGEST_CODE) * g;
        gradient[place] = to_bfloat16(g * row_scale);
    }
    for (int offset = 16; offset > 0; offset /= 2) sum += __shfl_xor_sync(0xffffffffu, sum, offset);
    if (threadIdx.x % 32 == 0) sums[threadIdx.x / 32] = sum;
    __syncthreads();
    if (threadIdx.x == 0) {
        for (int warp = 1; warp < blockDim.x / 32; warp++) sum += sums[warp];
        scale_gradient[row] += sum;
    }
}

extern "C" __global__ void direction(u16* gradient, u8* first_codes, float* first_scales, u8* second_codes,
                                     float* second_scales, int count, const float* numbers, int seed) {
    int first = (blockIdx.x * blockDim.x + threadIdx.x) * PER_THREAD;
    if (first / 256 * 256 >= count) return;  // whole warps only
    int block = first / 256;
    Halves g = load(gradient, first, count);
    Bytes codes1 = *reinterpret_cast<const Bytes*>(first_codes + first);
    Bytes codes2 = *reinterpret_cast<const Bytes*>(second_codes + first);
    float scale1 = first_scales[block], scale2 = second_scales[block];
    float m[PER_THREAD], v[PER_THREAD], largest1 = 0, largest2 = 0;
    for (int i = 0; i < PER_THREAD; i++) {
        float gi = from_bfloat16(g.at[i]) * numbers[GRADIENT_SCALE];
        u32 code1 = codes1.at[i], code2 = codes2.at[i];
        float m_old = code1 & 127 ? __uint_as_float(((code1 & 127) + FIRST_OFFSET) << 20) : 0.0f;
        float v_old = __uint_as_float((code2 + SECOND_OFFSET) << 20);
        m[i] = (code1 & 128 ? -m_old : m_old) * scale1 * numbers[BETA1] + gi * (1 - numbers[BETA1]);
        v[i] = v_old * scale2 * numbers[BETA2] + gi * gi * (1 - numbers[BETA2]);
        largest1 = fmaxf(largest1, fabsf(m[i]));
        largest2 = fmaxf(largest2, v[i]);
        g.at[i] = to_bfloat16(m[i] * numbers[CORRECTION1] / (sqrtf(v[i] * numbers[CORRECTION2]) + numbers[EPS]));
    }
    store(gradient, g, first, count);
    scale1 = warp_max(largest1);
    scale2 = warp_max(largest2);
    for (int i = 0; i < PER_THREAD; i++) {
        u32 noise = random_bits(seed, first + i);
        float magnitude = fabsf(m[i]) * inverse(scale1);
        u32 code = magnitude < SMALLEST_FIRST
            ? (magnitude / SMALLEST_FIRST * 65536.0f > (float)(noise & 0xffff))
            : ((__float_as_uint(magnitude) + ((noise & 0xffff) << 4)) >> 20) - FIRST_OFFSET;
        codes1.at[i] = code | (m[i] < 0 ? 128 : 0);
        int code2 = (int)((__float_as_uint(v[i] * inverse(scale2)) + (noise >> 16 << 4)) >> 20) - SECOND_OFFSET;
        codes2.at[i] = max(code2, 0);
    }
    *reinterpret_cast<Bytes*>(first_codes + first) = codes1;
    *reinterpret_cast<Bytes*>(second_codes + first) = codes2;
    if (threadIdx.x % 32 == 0) {
        first_scales[block] = scale1;
        second_scales[block] = scale2;
    }
}

extern "C" __global__ void step(u16* codes, float* scales, const u16* direction, int count, const float* numbers,
                                int seed) {
    int first = (blockIdx.x * blockDim.x + threadIdx.x) * PER_THREAD;
    if (first / 256 * 256 >= count) return;  // whole warps only
    int block = first / 256;
    Halves d = load(direction, first, count);
    Halves c = *reinterpret_cast<const Halves*>(codes + first);
    float unit = scales[block] / LARGEST_CODE, moved[PER_THREAD], largest = 0;
    bool touched = false;
    for (int i = 0; i < PER_THREAD; i++) {
        float value = (short)c.at[i] * unit;
        moved[i] = value - numbers[LEARNING_RATE] * (from_bfloat16(d.at[i]) + numbers[WEIGHT_DECAY] * value);
        touched |= moved[i] != value;
        largest = fmaxf(largest, fabsf(moved[i]));
    }
    if (!__any_sync(0xffffffffu, touched)) return;  // a block that did not move keeps its bits
    float scale = warp_max(largest);
    for (int i = 0; i < PER_THREAD; i++) {
        float noise = (float)(random_bits(seed, first + i) >> 9) * 1.1920928955078125e-07f;
        float code = floorf(moved[i] * inverse(scale) * LARGEST_CODE + noise);
        c.at[i] = (u16)(short)fminf(fmaxf(code, -LARGEST_CODE), LARGEST_CODE);
    }
    *reinterpret_cast<Halves*>(codes + first) = c;
    if (threadIdx.x % 32 == 0) scales[block] = scale;
}
