// MLX on a Linux CPU: NumPy's OpenBLAS under MLX, and products with quantized weights.
//
// MLX binds cblas_sgemm at its first call, to the library that was loaded first with RTLD_GLOBAL. This one passes it on
// to the OpenBLAS in NumPy's wheel, whose names have a prefix and whose integers have 64 bits. Threads are our own:
// those of OpenBLAS wait by spinning, and a product takes 40 ms instead of 2 where another program has the core.

#define PY_SSIZE_T_CLEAN
#define Py_LIMITED_API 0x030B0000
#include <Python.h>
#include <dlfcn.h>
#include <pthread.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

enum { ROW_MAJOR = 101, PLAIN = 111, TRANSPOSED = 112 };  // of CBLAS
enum { THREADS = 64 };
enum { WORTH = 1 << 20 };  // bytes or multiplications times 8 that pay for a thread: about 50 us
enum { MOST = 4 };         // rows of x that are multiplied by a quantized weight together
enum { FEW = 16 };         // rows of x from which OpenBLAS multiplies, by BLOCK rows of the weight, which fit in a cache
enum { BLOCK = 128 };

static void (*gemm)(int, int, int, int64_t, int64_t, int64_t, float, const float *, int64_t, const float *, int64_t,
                    float, float *, int64_t);
static void (*gemv)(int, int, int64_t, int64_t, float, const float *, int64_t, const float *, int64_t, float, float *,
                    int64_t);
static int max_threads = 1;

typedef void work(const void *task, int64_t begin, int64_t end);
struct part {
    work *work;
    const void *task;
    int64_t begin, end;
};

static void *run(void *argument) {
    const struct part *part = argument;
    part->work(part->task, part->begin, part->end);
    return NULL;
}

// Run `work` on 0 ... size, in parts that are worth a thread each.
static void in_threads(work *work, const void *task, int64_t size, int64_t cost) {
    struct part parts[THREADS];
    pthread_t threads[THREADS];
    int started[THREADS] = {0};
    int64_t count = 1 + cost / WORTH;
    count = count < max_threads ? count : max_threads;
    for (int64_t n = count - 1; n >= 0; n--) {  // this thread takes the first part, and those that get no thread
        parts[n] = (struct part){work, task, size * n / count, size * (n + 1) / count};
        started[n] = n && !pthread_create(&threads[n], NULL, run, &parts[n]);
        if (!started[n])
            run(&parts[n]);
    }
    for (int64_t n = 1; n < count; n++)
        if (started[n])
            pthread_join(threads[n], NULL);
}

struct sgemm {
    int ta, tb, by_rows;
    int64_t m, n, k, lda, ldb, ldc;
    float alpha, beta;
    const float *a, *b;
    float *c;
};

// Rows or columns of c.
static void sgemm_part(const void *task, int64_t begin, int64_t end) {
    const struct sgemm *g = task;
    int64_t m = g->by_rows ? end - begin : g->m, n = g->by_rows ? g->n : end - begin;
    const float *a = g->a + (g->by_rows ? begin * (g->ta == PLAIN ? g->lda : 1) : 0);
    const float *b = g->b + (g->by_rows ? 0 : begin * (g->tb == PLAIN ? 1 : g->ldb));
    float *c = g->c + begin * (g->by_rows ? g->ldc : 1);
    if (g->m > 2) {
        gemm(ROW_MAJOR, g->ta, g->tb, m, n, g->k, g->alpha, a, g->lda, b, g->ldb, g->beta, c, g->ldc);
        return;
    }
    int plain = g->tb == PLAIN;
    for (int64_t i = 0; i < m; i++, c += g->ldc, a += g->ta == PLAIN ? g->lda : 1) {  // reads b three times as fast
        if (g->beta == 0)
            memset(c, 0, 4 * n);  // it may hold a NaN, which gemv would keep
        gemv(ROW_MAJOR, plain ? TRANSPOSED : PLAIN, plain ? g->k : n, plain ? n : g->k, g->alpha, b, g->ldb, a,
             g->ta == PLAIN ? 1 : g->lda, g->beta == 0 ? 1 : g->beta, c, 1);
    }
}

void cblas_sgemm(int order, int ta, int tb, int m, int n, int k, float alpha, const float *a, int lda, const float *b,
                 int ldb, float beta, float *c, int ldc) {
    if (order != ROW_MAJOR) {
        gemm(order, ta, tb, m, n, k, alpha, a, lda, b, ldb, beta, c, ldc);
        return;
    }
    struct sgemm task = {ta, tb, m > n, m, n, k, lda, ldb, ldc, alpha, beta, a, b, c};
    in_threads(sgemm_part, &task, m > n ? m : n, (int64_t)n * k * (4 + m / 8));
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

static int compute(struct product *p, const float *x) {
    int64_t width = p->chunks * (32 / p->bits) * lanes, count = p->count == 1 ? 1 : (p->count + MOST - 1) / MOST * MOST;
    p->x = calloc(count * (width + p->groups) + (p->count > FEW) * BLOCK * width, sizeof(float));
    if (!p->x)
        return 0;
    p->sums = p->x + count * width;
    p->bytes = (int8_t *)p->x;
    p->steps = p->x + count * width / 4;
    int round = multiply_int8 && p->count <= FEW;
    (round ? arrange_int8 : arrange)(p, x);
    if (p->count <= FEW)
        in_threads(round ? multiply_int8 : multiply, p, p->rows, p->rows * p->words * 4 * count);
    float *block = p->sums + count * p->groups;
    for (int64_t row = 0, end; p->count > FEW && row < p->rows; row = end) {
        end = row + BLOCK < p->rows ? row + BLOCK : p->rows;
        dequantize(p, row, end, block);
        cblas_sgemm(ROW_MAJOR, PLAIN, TRANSPOSED, p->count, end - row, width, 1, p->x, width, block, width, 0,
                    p->y + row, p->rows);
    }
    free(p->x);
    return 1;
}

static PyObject *quantized_product(PyObject *Py_UNUSED(self), PyObject *arguments) {
    Py_buffer x, weight, scales, biases, y, *all[] = {&x, &weight, &scales, &biases, &y};
    long long count;
    int bits, done = 0;
    if (!PyArg_ParseTuple(arguments, "y*y*y*y*w*Li", &x, &weight, &scales, &biases, &y, &count, &bits))
        return NULL;
    int fits = gemm && count > 0 && (bits == 4 || bits == 8) && scales.len == biases.len;
    for (int n = 0; n < 5; n++)
        fits &= PyBuffer_IsContiguous(all[n], 'C') && all[n]->len > 0;
    struct product p = {weight.buf, scales.buf, biases.buf, .y = y.buf, .count = count, .bits = bits};
    if (fits && (p.rows = y.len / 4 / count) && (p.groups = scales.len / 4 / p.rows)) {
        p.words = weight.len / 4 / p.rows;
        p.span = p.words / p.groups;
        p.chunks = (p.words + lanes - 1) / lanes;
        fits = p.span * 32 / bits == 32 || p.span * 32 / bits == 64 || p.span * 32 / bits == 128;
        fits &= p.words == p.span * p.groups && weight.len == 4 * p.words * p.rows && y.len == 4 * p.rows * count;
        fits &= scales.len == 4 * p.groups * p.rows && x.len == 4 * count * p.words * (32 / bits);
    }
    if (fits) {
        PyThreadState *state = PyEval_SaveThread();
        done = compute(&p, x.buf);
        PyEval_RestoreThread(state);
    }
    for (int n = 0; n < 5; n++)
        PyBuffer_Release(all[n]);
    if (done)
        Py_RETURN_NONE;
    return fits ? PyErr_NoMemory() : PyErr_Format(PyExc_ValueError, "arrays that do not fit together");
}

// Takes the path of NumPy's OpenBLAS, and whether to round activations; returns whether this processor does so.
static PyObject *use_openblas(PyObject *Py_UNUSED(self), PyObject *arguments) {
    const char *name;
    int int8;
    if (!PyArg_ParseTuple(arguments, "sp", &name, &int8))
        return NULL;
    void *library = dlopen(name, RTLD_NOW);
    if (!library)
        return PyErr_Format(PyExc_OSError, "%s", dlerror());
    int (*get_num_threads)(void) = dlsym(library, "scipy_openblas_get_num_threads64_");
    void (*set_num_threads)(int) = dlsym(library, "scipy_openblas_set_num_threads64_");
    gemm = dlsym(library, "scipy_cblas_sgemm64_");
    gemv = dlsym(library, "scipy_cblas_sgemv64_");
    if (!gemm || !gemv || !get_num_threads || !set_num_threads)
        return PyErr_Format(PyExc_OSError, "%s: not the OpenBLAS of a NumPy wheel", name);
    max_threads = get_num_threads() < THREADS ? get_num_threads() : THREADS;
    set_num_threads(1);
#ifdef __x86_64__
    if (MAX_LANES >= 16 && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl"))
        lanes = 16, arrange = arrange_16, multiply = multiply_16, dequantize = dequantize_16;
    else if (MAX_LANES >= 8 && __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"))
        lanes = 8, arrange = arrange_8, multiply = multiply_8, dequantize = dequantize_8;
    arrange_int8 = arrange_16_int8;
    multiply_int8 = int8 && lanes == 16 && __builtin_cpu_supports("avx512vnni") ? multiply_16_int8 : NULL;
#endif
    return PyBool_FromLong(multiply_int8 != NULL);
}

static PyMethodDef methods[] = {{"quantized_product", quantized_product, METH_VARARGS, NULL},
                                {"use_openblas", use_openblas, METH_VARARGS, NULL},
                                {NULL, NULL, 0, NULL}};
static struct PyModuleDef module = {PyModuleDef_HEAD_INIT, "_cpu", NULL, -1, methods, NULL, NULL, NULL, NULL};
PyMODINIT_FUNC PyInit__cpu(void) { return PyModule_Create(&module); }
