// Products with activations rounded to 8 bits, by AVX-512 VNNI: 64 products an instruction. Uses _cpu_rows.h at 16 lanes.

#include <immintrin.h>
#include <math.h>

// Steps and bytes of x. The step of a group is its largest absolute value / 127. The bytes for even weights come first.
static void arrange_16_int8(struct product *p, const float *x) {
    const int64_t per_word = 32 / p->bits, size = p->span * per_word;
    for (int64_t n = 0; n < p->count * p->groups; n++, x += size) {
        float largest = 0;
        int sum = 0;
        for (int64_t k = 0; k < size; k++) {
            float value = x[k] < 0 ? -x[k] : x[k];
            largest = value <= largest ? largest : largest == largest ? value : largest;  // NaN stays NaN
        }
        for (int64_t k = 0; k < size; k++) {
            int64_t word = n % p->groups * p->span + k / per_word, chunk = n / p->groups * p->chunks + word / 16;
            int64_t byte = k % per_word, odd = p->bits == 4 && byte & 1;
            int rounded = largest > 0 && largest < INFINITY ? _mm_cvtss_si32(_mm_set_ss(x[k] / largest * 127)) : 0;
            p->bytes[(chunk * (8 / p->bits) + odd) * 64 + word % 16 * 4 + (p->bits == 4 ? byte / 2 : byte)] = rounded;
            p->steps[chunk * 16 + word % 16] = largest / 127;
            sum += rounded;
        }
        p->sums[n] = sum * largest / 127;  // of the rounded numbers: their errors meet weights that sum to about zero
    }
}

INLINE void row_int8(const struct product *p, int64_t row, int64_t t, int bits, int span) {
    const float *scales = p->scales + row * p->groups, *biases = p->biases + row * p->groups, *sums = p->sums + t * p->groups;
    const int64_t chunks = p->chunks, groups = p->groups, num_words = p->words;
    floats_16 total = {0};
    for (int64_t chunk = 0; chunk < chunks; chunk++) {
        words_16 words = load_16(p->weight + row * num_words + chunk * 16, num_words - chunk * 16);
        const int8_t *x = p->bytes + (t * chunks + chunk) * (8 / bits) * 64;
        words_16 even = words & (bits == 4 ? 0x0f0f0f0f : -1), odd = (words >> 4) & 0x0f0f0f0f;
        __m512i part = _mm512_dpbusd_epi32(_mm512_setzero_si512(), (__m512i)even, _mm512_loadu_si512(x));
        if (bits == 4)
            part = _mm512_dpbusd_epi32(part, (__m512i)odd, _mm512_loadu_si512(x + 64));
        total += (floats_16)_mm512_cvtepi32_ps(part) * spread_16(scales, chunk, groups, span) *
                 *(const floats_16 *)(p->steps + (t * chunks + chunk) * 16);
    }
    p->y[t * p->rows + row] = finish_16(total, biases, sums, groups);
}

static void multiply_16_int8(const void *task, int64_t begin, int64_t end) {
    const struct product *p = task;
#define ROWS(BITS, SPAN)                                                                                               \
    if (p->bits == BITS && p->span == SPAN)                                                                            \
        for (int64_t row = begin; row < end; row++)                                                                    \
            for (int64_t t = 0; t < p->count; t++)                                                                     \
                row_int8(p, row, t, BITS, SPAN);
    EVERY_FORM
#undef ROWS
}
