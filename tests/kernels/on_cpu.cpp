// kernels.cu as C++: every CUDA thread is a thread here, and the lanes of a warp meet where they exchange values.
#include <algorithm>
#include <barrier>
#include <cmath>
#include <cstring>
#include <memory>
#include <thread>
#include <vector>

using std::max;

struct Place { unsigned x; };
static thread_local Place threadIdx, blockIdx;
static Place blockDim;

const int LANES = 32;
static float exchanged[32][LANES];
static std::vector<std::unique_ptr<std::barrier<>>> warps;
static std::unique_ptr<std::barrier<>> block;

static float __uint_as_float(unsigned bits) { float value; memcpy(&value, &bits, 4); return value; }
static unsigned __float_as_uint(float value) { unsigned bits; memcpy(&bits, &value, 4); return bits; }

static float __shfl_xor_sync(unsigned, float value, int offset) {
    unsigned warp = threadIdx.x / LANES, lane = threadIdx.x % LANES;
    exchanged[warp][lane] = value;
    warps[warp]->arrive_and_wait();
    float other = exchanged[warp][lane ^ offset];
    warps[warp]->arrive_and_wait();
    return other;
}

static bool __any_sync(unsigned mask, bool value) {
    float any = value;
    for (int offset = LANES / 2; offset > 0; offset /= 2) any = max(any, __shfl_xor_sync(mask, any, offset));
    return any > 0;
}

static void __syncthreads() { block->arrive_and_wait(); }

#define __global__
#define __device__ static
#define __shared__ static
#include KERNELS

template <typename Kernel, typename... Arguments> void run(int blocks, int threads, Kernel kernel, Arguments... arguments) {
    blockDim.x = threads;
    for (unsigned b = 0; b < (unsigned)blocks; b++) {
        warps.clear();
        for (int warp = 0; warp < threads / LANES; warp++) warps.emplace_back(new std::barrier<>(LANES));
        block.reset(new std::barrier<>(threads));
        std::vector<std::thread> running;
        for (unsigned t = 0; t < (unsigned)threads; t++) {
            running.emplace_back([=] { threadIdx.x = t; blockIdx.x = b; kernel(arguments...); });
        }
        for (std::thread& thread : running) thread.join();
    }
}

extern "C" {
void run_values(int blocks, int threads, u16* a, float* b, u16* c, int n) { run(blocks, threads, values, a, b, c, n); }
void run_scaled_values(int blocks, int threads, u16* a, float* b, u16* c, int n, float* s, int w, int f) {
    run(blocks, threads, scaled_values, a, b, c, n, s, w, f);
}
void run_scale_gradients(int blocks, int threads, u16* a, float* b, u16* g, float* s, float* t, int w, int f) {
    run(blocks, threads, scale_gradients, a, b, g, s, t, w, f);
}
void run_direction(int blocks, int threads, u16* g, u8* a, float* b, u8* c, float* d, int n, float* x, int seed) {
    run(blocks, threads, direction, g, a, b, c, d, n, x, seed);
}
void run_step(int blocks, int threads, u16* a, float* b, u16* d, int n, float* x, int seed) {
    run(blocks, threads, step, a, b, d, n, x, seed);
}
}
