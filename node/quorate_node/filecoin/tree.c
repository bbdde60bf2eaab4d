/* The node over a chunk of a Filecoin piece: Fr32 expansion, then SHA-256 over pairs, four at a time.

   WebAssembly with 128-bit SIMD. The host writes up to 1,040,384 raw bytes to `input` and calls `node(length, height)`;
   the 32 bytes at the address that it returns are the root over 127·2^(height-2) bytes, what is missing being zeros.

   Nodes are kept as eight rows of 32-bit words, one row for each word's place, so that four neighbours lie in one
   vector. A pair of nodes is 64 bytes, to which SHA-256 adds a block that is always the same: its schedule is computed
   once, together with the round constants. */

#include <stdint.h>
#include <wasm_simd128.h>

enum {
  QUAD = 127,
  MIN_HEIGHT = 2,
  MAX_HEIGHT = 15,
  MAX_QUADS = 1 << (MAX_HEIGHT - MIN_HEIGHT),
  LEAVES = 4 * MAX_QUADS,
  ROW = LEAVES + 16 /* rows a power of two apart would share the same few lines of the cache */
};

static uint8_t raw[QUAD * MAX_QUADS + 8];
static uint32_t rows[8][ROW] __attribute__((aligned(64)));
static uint8_t result[32];
static uint32_t tail[64];
static int is_ready;

static const uint32_t K[64] = {
    0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5, 0xd807aa98, 0x12835b01, 0x243185be,
    0x550c7dc3, 0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174, 0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc, 0x2de92c6f, 0x4a7484aa,
    0x5cb0a9dc, 0x76f988da, 0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7, 0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967, 0x27b70a85,
    0x2e1b2138, 0x4d2c6dfc, 0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85, 0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3,
    0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070, 0x19a4c116, 0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f,
    0x682e6ff3, 0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208, 0x90befffa, 0xa4506ceb, 0xbef9a3f7, 0xc67178f2};

static const uint32_t START[8] = {0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a, 0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19};

static uint32_t rotated(uint32_t word, int by) { return word >> by | word << (32 - by); }

/* Round constants plus schedule of the block that ends a message of 64 bytes. */
static void prepare(void) {
  uint32_t w[64] = {0x80000000u};
  w[15] = 512;
  for (int i = 16; i < 64; i++) {
    uint32_t low = rotated(w[i - 15], 7) ^ rotated(w[i - 15], 18) ^ w[i - 15] >> 3;
    uint32_t high = rotated(w[i - 2], 17) ^ rotated(w[i - 2], 19) ^ w[i - 2] >> 10;
    w[i] = w[i - 16] + low + w[i - 7] + high;
  }
  for (int i = 0; i < 64; i++) tail[i] = w[i] + K[i];
  is_ready = 1;
}

typedef v128_t vec;
#define ADD wasm_i32x4_add
#define XOR wasm_v128_xor
#define ROT(x, n) XOR(wasm_u32x4_shr(x, n), wasm_i32x4_shl(x, 32 - (n)))
#define SIGMA0(x) XOR(XOR(ROT(x, 7), ROT(x, 18)), wasm_u32x4_shr(x, 3))
#define SIGMA1(x) XOR(XOR(ROT(x, 17), ROT(x, 19)), wasm_u32x4_shr(x, 10))
#define SUM0(x) XOR(XOR(ROT(x, 2), ROT(x, 13)), ROT(x, 22))
#define SUM1(x) XOR(XOR(ROT(x, 6), ROT(x, 11)), ROT(x, 25))
#define CHOICE(e, f, g) XOR(g, wasm_v128_and(e, XOR(f, g)))
#define MAJORITY(a, b, c) XOR(b, wasm_v128_and(XOR(a, b), XOR(b, c)))

#define ROUND(a, b, c, d, e, f, g, h, kw)                          \
  do {                                                             \
    vec t = ADD(ADD(h, kw), ADD(SUM1(e), CHOICE(e, f, g)));        \
    d = ADD(d, t);                                                 \
    h = ADD(t, ADD(SUM0(a), MAJORITY(a, b, c)));                   \
  } while (0)

/* Eight rounds from round i + j on, where j is a constant, so that the schedule's sixteen words can stay in registers. */
#define EIGHT(kw, i, j)                          \
  ROUND(a, b, c, d, e, f, g, h, kw(i, (j) + 0)); \
  ROUND(h, a, b, c, d, e, f, g, kw(i, (j) + 1)); \
  ROUND(g, h, a, b, c, d, e, f, kw(i, (j) + 2)); \
  ROUND(f, g, h, a, b, c, d, e, kw(i, (j) + 3)); \
  ROUND(e, f, g, h, a, b, c, d, kw(i, (j) + 4)); \
  ROUND(d, e, f, g, h, a, b, c, kw(i, (j) + 5)); \
  ROUND(c, d, e, f, g, h, a, b, kw(i, (j) + 6)); \
  ROUND(b, c, d, e, f, g, h, a, kw(i, (j) + 7))

#define FIRST(i, j) ADD(w[j], wasm_u32x4_splat(K[(i) + (j)]))
#define EXTEND(j) w[j] = ADD(ADD(w[j], SIGMA0(w[((j) + 1) & 15])), ADD(w[((j) + 9) & 15], SIGMA1(w[((j) + 14) & 15])))
#define NEXT(i, j) ADD(EXTEND(j), wasm_u32x4_splat(K[(i) + (j)]))
#define TAIL(i, j) wasm_u32x4_splat(tail[(i) + (j)])

/* Four nodes over the eight that start at `from`, written to `to`, which may be the same place or before. */
static void combine_four(uint32_t from, uint32_t to) {
  vec w[16], state[8];
  for (int i = 0; i < 8; i++) {
    vec low = wasm_v128_load(&rows[i][from]), high = wasm_v128_load(&rows[i][from + 4]);
    w[i] = wasm_i32x4_shuffle(low, high, 0, 2, 4, 6);
    w[8 + i] = wasm_i32x4_shuffle(low, high, 1, 3, 5, 7);
    state[i] = wasm_u32x4_splat(START[i]);
  }
  vec a = state[0], b = state[1], c = state[2], d = state[3], e = state[4], f = state[5], g = state[6], h = state[7];
  EIGHT(FIRST, 0, 0);
  EIGHT(FIRST, 0, 8);
  for (int i = 16; i < 64; i += 16) {
    EIGHT(NEXT, i, 0);
    EIGHT(NEXT, i, 8);
  }
  a = state[0] = ADD(a, state[0]), b = state[1] = ADD(b, state[1]), c = state[2] = ADD(c, state[2]), d = state[3] = ADD(d, state[3]);
  e = state[4] = ADD(e, state[4]), f = state[5] = ADD(f, state[5]), g = state[6] = ADD(g, state[6]), h = state[7] = ADD(h, state[7]);
  for (int i = 0; i < 64; i += 16) {
    EIGHT(TAIL, i, 0);
    EIGHT(TAIL, i, 8);
  }
  vec made[8] = {a, b, c, d, e, f, g, h};
  for (int i = 0; i < 8; i++) made[i] = ADD(made[i], state[i]);
  made[7] = wasm_v128_and(made[7], wasm_u32x4_splat(0xFFFFFF3Fu)); /* 254 bits: without the last byte's two highest */
  for (int i = 0; i < 8; i++) wasm_v128_store(&rows[i][to], made[i]);
}

static uint64_t load(const uint8_t *from) {
  uint64_t word;
  __builtin_memcpy(&word, from, 8);
  return word;
}

/* 127 bytes become four leaves of 254 bits; a leaf's bytes are kept as words of the other end. */
static void expand(uint32_t quad) {
  const uint8_t *from = raw + QUAD * quad;
  uint64_t in[16];
  for (int i = 0; i < 16; i++) in[i] = load(from + 8 * i); /* the last one reads a byte that the mask below removes */
  for (int leaf = 0; leaf < 4; leaf++)
    for (int i = 0; i < 4; i++) {
      uint64_t word = in[4 * leaf + i];
      if (leaf) word = word << (2 * leaf) | in[4 * leaf + i - 1] >> (64 - 2 * leaf);
      if (i == 3) word &= 0x3FFFFFFFFFFFFFFFull;
      rows[2 * i][4 * quad + leaf] = __builtin_bswap32((uint32_t)word);
      rows[2 * i + 1][4 * quad + leaf] = __builtin_bswap32((uint32_t)(word >> 32));
    }
}

__attribute__((export_name("input"))) uint8_t *input(void) { return raw; }

/* 0 for what does not fit. */
__attribute__((export_name("node"))) uint8_t *node(uint32_t length, uint32_t height) {
  if (height < MIN_HEIGHT || height > MAX_HEIGHT || length > (uint32_t)QUAD << (height - MIN_HEIGHT)) return 0;
  if (!is_ready) prepare();
  uint32_t quads = 1u << (height - MIN_HEIGHT), leaves = 4 * quads;
  for (uint32_t i = length; i < QUAD * quads; i++) raw[i] = 0;
  for (uint32_t i = 0; i < quads; i++) expand(i);
  for (; leaves > 1; leaves /= 2)
    for (uint32_t i = 0; i < leaves; i += 8) combine_four(i, i / 2);
  for (int i = 0; i < 8; i++) {
    uint32_t word = __builtin_bswap32(rows[i][0]);
    __builtin_memcpy(result + 4 * i, &word, 4);
  }
  return result;
}
