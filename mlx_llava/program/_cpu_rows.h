// Rows of a quantized weight on one instruction set; _cpu.c includes this file once for each.
//
// A chunk is LANES words of a row. Lane l of its j-th vector holds the j-th weight of word l, which takes a shift and a
// mask; `arrange` puts x into the same order. A group of weights, which share a scale and a bias, has `span` words.

typedef float NAME(floats) __attribute__((vector_size(4 * LANES), aligned(4), may_alias));
typedef int32_t NAME(words) __attribute__((vector_size(4 * LANES), aligned(4), may_alias));

INLINE NAME(words) NAME(load)(const int32_t *words, int64_t left) {
    if (left >= LANES)
        return *(const NAME(words) *)words;
    NAME(words) some = {0};
    memcpy(&some, words, 4 * left);
    return some;
}

INLINE NAME(floats) NAME(weights)(NAME(words) words, int j, int bits) {
    return __builtin_convertvector((words >> (bits * j)) & ((1 << bits) - 1), NAME(floats));
}

// The scales or biases of a chunk, one for each lane.
INLINE NAME(floats) NAME(spread)(const float *values, int64_t chunk, int64_t groups, int span) {
    int64_t first = chunk * LANES / span;
    NAME(floats) all = {0};
    if (span >= LANES)
        return all + values[first];
    for (int n = 0; n < LANES / span && first + n < groups; n++) {
        const float *ones = span == 4 ? band4 + 12 - 4 * n : band8 + 8 - 8 * n;
        all += *(const NAME(floats) *)ones * values[first + n];
    }
    return all;
}

// The sum of all lanes, plus the biases times the sums of their groups of x.
INLINE float NAME(finish)(NAME(floats) total, const float *biases, const float *sums, int64_t groups) {
    int64_t group = 0;
    for (; group + LANES <= groups; group += LANES)
        total += *(const NAME(floats) *)(biases + group) * *(const NAME(floats) *)(sums + group);
    float y = 0;
    for (; group < groups; group++)
        y += biases[group] * sums[group];
    for (int lane = 0; lane < LANES; lane++)
        y += total[lane];
    return y;
}

// Products of one row with `count` rows of x.
INLINE void NAME(row)(const struct product *p, int64_t row, int64_t first, int count, int bits, int span) {
    const float *scales = p->scales + row * p->groups, *biases = p->biases + row * p->groups;
    const int64_t chunks = p->chunks, groups = p->groups, num_words = p->words;
    const NAME(floats) *x = (const NAME(floats) *)p->x + first * chunks * (32 / bits);
    NAME(floats) total[MOST] = {0};
    for (int64_t chunk = 0; chunk < chunks; chunk++) {
        NAME(words) words = NAME(load)(p->weight + row * num_words + chunk * LANES, num_words - chunk * LANES);
        NAME(floats) part[MOST] = {0}, scale = NAME(spread)(scales, chunk, groups, span);
        for (int j = 0; j < 32 / bits; j++) {
            NAME(floats) weights = NAME(weights)(words, j, bits);
            for (int t = 0; t < count; t++)
                part[t] += weights * x[(t * chunks + chunk) * (32 / bits) + j];
        }
        for (int t = 0; t < count; t++)
            total[t] += part[t] * scale;
    }
    for (int t = 0; t < count && first + t < p->count; t++)
        p->y[(first + t) * p->rows + row] = NAME(finish)(total[t], biases, p->sums + (first + t) * groups, groups);
}

static void NAME(multiply)(const void *task, int64_t begin, int64_t end) {
    const struct product *p = task;
#define ROWS(BITS, SPAN)                                                                                               \
    if (p->bits == BITS && p->span == SPAN)                                                                            \
        for (int64_t from = begin; from < end; from += p->count == 1 ? end - begin : 32) /* whose words stay in the cache for all rows of x */        \
            for (int64_t t = 0; t < p->count; t += MOST)                                                               \
                for (int64_t row = from; row < end && (p->count == 1 || row < from + 32); row++)                                          \
                    p->count == 1 ? NAME(row)(p, row, t, 1, BITS, SPAN) : NAME(row)(p, row, t, MOST, BITS, SPAN);
    EVERY_FORM
#undef ROWS
}

// Rows as floats, in the order of `arrange`.
static void NAME(dequantize)(const struct product *p, int64_t begin, int64_t end, float *out) {
    for (int64_t row = begin; row < end; row++)
        for (int64_t chunk = 0; chunk < p->chunks; chunk++) {
            NAME(words) words = NAME(load)(p->weight + row * p->words + chunk * LANES, p->words - chunk * LANES);
            NAME(floats) scale = NAME(spread)(p->scales + row * p->groups, chunk, p->groups, p->span);
            NAME(floats) bias = NAME(spread)(p->biases + row * p->groups, chunk, p->groups, p->span);
            for (int j = 0; j < 32 / p->bits; j++, out += LANES)
                *(NAME(floats) *)out = NAME(weights)(words, j, p->bits) * scale + bias;
        }
}

static void NAME(arrange)(struct product *p, const float *x) {
    const int64_t per_word = 32 / p->bits;
    for (int64_t t = 0; t < p->count; t++) {
        for (int64_t group = 0; group < p->groups; group++)
            for (int64_t k = 0; k < p->span * per_word; k++)
                p->sums[t * p->groups + group] += x[group * p->span * per_word + k];
        for (int64_t word = 0; word < p->words; word++, x += per_word)
            for (int64_t j = 0; j < per_word; j++)
                p->x[((t * p->chunks + word / LANES) * per_word + j) * LANES + word % LANES] = x[j];
    }
}
