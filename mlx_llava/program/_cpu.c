// MLX on a Linux CPU: NumPy's OpenBLAS under MLX, and products with quantized weights.
//
// libmlx binds cblas_sgemm when it is loaded, to the first library in the global scope that exports it. This one passes it
// on to the OpenBLAS in NumPy's wheel, whose names have a prefix and whose integers have 64 bits. Threads are our own: each
// product of OpenBLAS waits for all of its threads, 40 ms instead of 2 where another program has their core.

#define PY_SSIZE_T_CLEAN
#define Py_LIMITED_API 0x030B0000
#include <Python.h>
#include <dlfcn.h>
#include <pthread.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

enum { ROW_MAJOR = 101, PLAIN = 111, TRANSPOSED = 112 };  // of CBLAS
enum { PARTS = 3 };        // parts of a task for each thread
enum { WORTH = 1 << 20 };  // bytes to read, or twice as many multiplications, for each thread: about 50 us
enum { MOST = 4 };         // rows of x that are multiplied by a quantized weight together
enum { FEW = 16 };         // most rows of x that are multiplied without OpenBLAS
enum { BLOCK = 128 };      // rows of a weight that fit in a cache

static void (*gemm)(int, int, int, int64_t, int64_t, int64_t, float, const float *, int64_t, const float *, int64_t,
                    float, float *, int64_t);
static void (*gemv)(int, int, int64_t, int64_t, float, const float *, int64_t, const float *, int64_t, float, float *,
                    int64_t);
static int max_threads = 1;

typedef void work(const void *task, int64_t begin, int64_t end);

// The task at hand, in parts that this thread and sleeping ones take in turn. A thread that gets no core takes none, so
// that nothing waits for it.
static struct {
    work *work;
    const void *task;
    int64_t next, size, step;
    int running, threads;
} shared;
static pthread_mutex_t caller = PTHREAD_MUTEX_INITIALIZER, state = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t started = PTHREAD_COND_INITIALIZER, finished = PTHREAD_COND_INITIALIZER;

// Call with `state` locked.
static void take_parts(void) {
    while (shared.next < shared.size) {
        int64_t begin = shared.next, end = begin + shared.step < shared.size ? begin + shared.step : shared.size;
        shared.next = end;
        shared.running++;
        pthread_mutex_unlock(&state);
        shared.work(shared.task, begin, end);
        pthread_mutex_lock(&state);
        if (--shared.running == 0)
            pthread_cond_signal(&finished);
    }
}

static void *help(void *nothing) {
    pthread_mutex_lock(&state);
    for (;;) {
        take_parts();
        pthread_cond_wait(&started, &state);
    }
    return nothing;
}

static void in_threads(work *work, const void *task, int64_t size, int64_t cost) {
    int64_t threads = 1 + cost / WORTH < max_threads ? 1 + cost / WORTH : max_threads;
    if (threads == 1 || pthread_mutex_trylock(&caller)) {  // another thread of Python computes: the cores are taken
        work(task, 0, size);
        return;
    }
    pthread_mutex_lock(&state);
    for (pthread_t thread; shared.threads < threads - 1 && !pthread_create(&thread, NULL, help, NULL);) {
        pthread_detach(thread);
        shared.threads++;
    }
    int64_t parts = PARTS * threads;
    shared.work = work, shared.task = task, shared.next = 0, shared.size = size, shared.step = (size + parts - 1) / parts;
    pthread_cond_broadcast(&started);
    take_parts();
    while (shared.running)
        pthread_cond_wait(&finished, &state);
    pthread_mutex_unlock(&state);
    pthread_mutex_unlock(&caller);
}

struct sgemm {
    int ta, tb, by_rows;
    int64_t m, n, k, lda, ldb, ldc;
    float alpha, beta;
    const float *a, *b;
    float *c;
};

// Rows or columns begin ... end of c.
static void sgemm_part(const void *task, int64_t begin, int64_t end) {
    const struct sgemm *g = task;
    int64_t m = g->by_rows ? end - begin : g->m, n = g->by_rows ? g->n : end - begin;
    const float *a = g->a + (g->by_rows ? begin * (g->ta == PLAIN ? g->lda : 1) : 0);
    const float *b = g->b + (g->by_rows ? 0 : begin * (g->tb == PLAIN ? 1 : g->ldb));
    float *c = g->c + begin * (g->by_rows ? g->ldc : 1);
    int plain = g->tb == PLAIN;
    if (g->m > (plain ? 2 : 8) || g->k == 0) {  // gemv would not scale c
        gemm(ROW_MAJOR, g->ta, g->tb, m, n, g->k, g->alpha, a, g->lda, b, g->ldb, g->beta, c, g->ldc);
        return;
    }
    // gemm copies b before it reads it; gemv reads it from memory once, and from the cache for further rows of a
    for (int64_t j = 0, width; j < n; j += width) {
        width = plain || n - j < BLOCK ? n - j : BLOCK;
        for (int64_t i = 0; i < m; i++) {
            float *y = c + i * g->ldc + j;
            if (g->beta == 0)
                memset(y, 0, 4 * width);  // it may hold a NaN, which gemv would keep
            gemv(ROW_MAJOR, plain ? TRANSPOSED : PLAIN, plain ? g->k : width, plain ? width : g->k, g->alpha,
                 b + (plain ? j : j * g->ldb), g->ldb, a + i * (g->ta == PLAIN ? g->lda : 1), g->ta == PLAIN ? 1 : g->lda,
                 g->beta == 0 ? 1 : g->beta, y, 1);
        }
    }
}

void cblas_sgemm(int order, int ta, int tb, int m, int n, int k, float alpha, const float *a, int lda, const float *b,
                 int ldb, float beta, float *c, int ldc) {
    if (order != ROW_MAJOR) {
        gemm(order, ta, tb, m, n, k, alpha, a, lda, b, ldb, beta, c, ldc);
        return;
    }
    struct sgemm task = {ta, tb, m > n && m > 8, m, n, k, lda, ldb, ldc, alpha, beta, a, b, c};
    in_threads(sgemm_part, &task, task.by_rows ? m : n, (int64_t)n * k * (4 + m / 8));
}

struct product {
    const int32_t *weight;            // [rows, words]
    const float *scales, *biases;     // [rows, groups]
    float *x, *sums, *y;              // [count, chunks, weights of a word, lanes], [count, groups], [count, rows]
    int8_t *bytes;                    // x rounded, in place of it: [count, chunks, words of 4 bytes, lanes]
    float *steps;                     // [count, chunks, lanes]
    int64_t rows, words, groups, span, chunks, count, bits;  // span: words of a group
};
static const float band4[28] = {[12] = 1, 1, 1, 1}, band8[24] = {[8] = 1, 1, 1, 1, 1, 1, 1, 1};

#ifndef MAX_LANES
#define MAX_LANES 16  // tests compile the code of older processors
#endif
#define EVERY_FORM ROWS(4, 4) ROWS(4, 8) ROWS(4, 16) ROWS(8, 8) ROWS(8, 16) ROWS(8, 32)
#define PRAGMA(...) _Pragma(#__VA_ARGS__)
#ifdef __clang__
#define BEGIN(list) PRAGMA(clang attribute push(__attribute__((target(list))), apply_to = function))
#define END _Pragma("clang attribute pop")
#else
#define BEGIN(list) _Pragma("GCC push_options") PRAGMA(GCC target(list))
#define END _Pragma("GCC pop_options")
#endif
#define INLINE static inline __attribute__((always_inline))
#define LANES 4
#define NAME(name) name##_4
#include "_cpu_rows.h"
#ifdef __x86_64__
#undef LANES
#define LANES 8
#undef NAME
#define NAME(name) name##_8
BEGIN("avx2,fma")
#include "_cpu_rows.h"
END
#undef LANES
#define LANES 16
#undef NAME
#define NAME(name) name##_16
#define AVX512 "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma"
BEGIN(AVX512)
#include "_cpu_rows.h"
END
BEGIN(AVX512 ",avx512vnni")
#include "_cpu_int8.h"
END
#endif

static int lanes = 4;
static work *multiply = multiply_4;
static work *multiply_int8 = NULL;  // set, with `arrange_int8`, if activations are to be rounded
static void (*arrange_int8)(struct product *, const float *) = NULL;
static void (*arrange)(struct product *, const float *) = arrange_4;
static void (*dequantize)(const struct product *, int64_t, int64_t, float *) = dequantize_4;

// By OpenBLAS, BLOCK rows of the weight at a time, which fit in a cache.
static void multiply_many(const void *task, int64_t begin, int64_t end) {
    const struct product *p = task;
    int64_t width = p->chunks * (32 / p->bits) * lanes;
    float *block = malloc(BLOCK * width * sizeof(float));
    if (!block) {
        multiply(task, begin, end);
        return;
    }
    for (int64_t row = begin, size; row < end; row += size) {
        size = end - row < BLOCK ? end - row : BLOCK;
        dequantize(p, row, row + size, block);
        gemm(ROW_MAJOR, PLAIN, TRANSPOSED, p->count, size, width, 1, p->x, width, block, width, 0, p->y + row, p->rows);
    }
    free(block);
}

static int compute(struct product *p, const float *x) {
    int64_t width = p->chunks * (32 / p->bits) * lanes, count = p->count == 1 ? 1 : (p->count + MOST - 1) / MOST * MOST;
    p->x = calloc(count * (width + p->groups), sizeof(float));
    if (!p->x)
        return 0;
    p->sums = p->x + count * width;
    p->bytes = (int8_t *)p->x;
    p->steps = p->x + count * width / 4;
    int round = multiply_int8 && p->count <= FEW;
    (round ? arrange_int8 : arrange)(p, x);
    work *by = p->count > FEW ? multiply_many : round ? multiply_int8 : multiply;
    in_threads(by, p, p->rows, p->rows * p->words * 4 * count);
    free(p->x);
    return 1;
}

static PyObject *quantized_product(PyObject *Py_UNUSED(self), PyObject *arguments) {
    PyObject *given[5];
    Py_buffer all[5] = {0}, *x = all, *weight = all + 1, *scales = all + 2, *biases = all + 3, *y = all + 4;
    long long count;
    int bits, fits = 1, got = 0, done = 0;
    if (!PyArg_ParseTuple(arguments, "OOOOOLi", given, given + 1, given + 2, given + 3, given + 4, &count, &bits))
        return NULL;
    // without strides MLX would pretend that its arrays are contiguous
    for (; got < 5 && !PyObject_GetBuffer(given[got], &all[got], PyBUF_STRIDES | (got == 4 ? PyBUF_WRITABLE : 0)); got++)
        fits &= PyBuffer_IsContiguous(&all[got], 'C') && all[got].len > 0;
    struct product p = {weight->buf, scales->buf, biases->buf, .y = y->buf, .count = count, .bits = bits};
    fits = fits && got == 5 && gemm && count > 0 && (bits == 4 || bits == 8) && scales->len == biases->len;
    fits = fits && (p.rows = y->len / 4 / count) && (p.groups = scales->len / 4 / p.rows);
    if (fits) {
        p.words = weight->len / 4 / p.rows;
        p.span = p.words / p.groups;
        p.chunks = (p.words + lanes - 1) / lanes;
        int64_t size = p.span * (32 / bits);
        fits = (size == 32 || size == 64 || size == 128) && p.words == p.span * p.groups;
        fits &= weight->len == 4 * p.words * p.rows && y->len == 4 * p.rows * count;
        fits &= scales->len == 4 * p.groups * p.rows && x->len == 4 * count * p.words * (32 / bits);
    }
    if (fits) {
        PyThreadState *state = PyEval_SaveThread();
        done = compute(&p, x->buf);
        PyEval_RestoreThread(state);
    }
    for (int n = 0; n < got; n++)
        PyBuffer_Release(&all[n]);
    if (done)
        Py_RETURN_NONE;
    return got < 5 ? NULL : fits ? PyErr_NoMemory() : PyErr_Format(PyExc_ValueError, "these arrays do not fit together");
}

static PyObject *use_openblas(PyObject *Py_UNUSED(self), PyObject *arguments) {
    const char *name;
    int threads, int8;
    if (!PyArg_ParseTuple(arguments, "sip", &name, &threads, &int8))
        return NULL;
    void *library = dlopen(name, RTLD_NOW);
    if (!library)
        return PyErr_Format(PyExc_OSError, "%s", dlerror());
    void (*set_num_threads)(int) = dlsym(library, "scipy_openblas_set_num_threads64_");
    void *new_gemm = dlsym(library, "scipy_cblas_sgemm64_"), *new_gemv = dlsym(library, "scipy_cblas_sgemv64_");
    if (!new_gemm || !new_gemv || !set_num_threads)
        return PyErr_Format(PyExc_OSError, "%s: not the OpenBLAS of a NumPy wheel", name);
    gemm = new_gemm, gemv = new_gemv, max_threads = threads;
    set_num_threads(1);
#ifdef __x86_64__
    if (MAX_LANES >= 16 && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq") &&
        __builtin_cpu_supports("avx512vl"))
        lanes = 16, arrange = arrange_16, multiply = multiply_16, dequantize = dequantize_16;
    else if (MAX_LANES >= 8 && __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"))
        lanes = 8, arrange = arrange_8, multiply = multiply_8, dequantize = dequantize_8;
    arrange_int8 = arrange_16_int8;
    multiply_int8 = int8 && lanes == 16 && __builtin_cpu_supports("avx512vnni") ? multiply_16_int8 : NULL;
#endif
    return PyBool_FromLong(multiply_int8 != NULL);  // whether activations are rounded
}

static PyMethodDef methods[] = {{"quantized_product", quantized_product, METH_VARARGS, NULL},
                                {"use_openblas", use_openblas, METH_VARARGS, NULL},
                                {NULL, NULL, 0, NULL}};
static struct PyModuleDef module = {PyModuleDef_HEAD_INIT, "_cpu", NULL, -1, methods, NULL, NULL, NULL, NULL};
PyMODINIT_FUNC PyInit__cpu(void) { return PyModule_Create(&module); }
