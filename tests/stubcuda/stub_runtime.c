/* A CUDA runtime, and as much of cuBLAS as PyTorch calls, for a machine without a GPU.
 *
 * It is preloaded, so that PyTorch's CUDA build finds these functions before NVIDIA's. "Device"
 * memory is zeroed memory of the host, copies are real, and kernels and matrix products do nothing
 * at all. What remains is PyTorch's own work: dispatch, autocast, checks of dtypes and devices, the
 * caching allocator, warnings about synchronization, code generation.
 *
 * build.py adds a function that returns 0 for every other symbol of CUDA and cuBLAS that PyTorch's
 * libraries want, and one that fails for those of cuFFT, cuRAND, cuSOLVER, cuSPARSE and NCCL.
 *
 * Environment, read once when the library is loaded:
 *   STUB_TOTAL   bytes of memory of the device 
 */
#define _GNU_SOURCE
#include <cuda_runtime_api.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

static size_t total = (size_t)4 << 30;
static size_t used;

__attribute__((constructor)) static void read_settings(void)
{
    if (getenv("STUB_TOTAL"))
        total = strtoull(getenv("STUB_TOTAL"), NULL, 10);
}

/* Those of libraries of which there is no stub: 1 is an error in all of them. */
int stub_refuse(const char *function)
{
    fprintf(stderr, "stub: %s is not supported\n", function);
    return 1;
}

/* ---- Memory --------------------------------------------------------------------------------- */

/* Pages are mapped and not touched, so the device costs the host only what is copied to it. Fresh
 * ones read as zeros; what PyTorch's allocator uses again holds what was there before. */
typedef struct {
    char *start;
    size_t size;    /* what was asked for */
    size_t mapped;  /* what was mapped */
    int on_host;    /* pinned memory, not the device's */
} Block;

#define MAX_BLOCKS 65536
static Block blocks[MAX_BLOCKS];
static int n_blocks;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

/* The index of the block that holds an address, or -1. Newest first. Call with the lock held. */
static int find(const void *address)
{
    for (int i = n_blocks - 1; i >= 0; i--)
        if ((char *)address >= blocks[i].start && (char *)address < blocks[i].start + blocks[i].mapped)
            return i;
    return -1;
}

static cudaError_t allocate(void **result, size_t size, int on_host)
{
    cudaError_t error = cudaErrorMemoryAllocation;
    size_t mapped = size ? (size + 4095) / 4096 * 4096 : 4096;
    *result = NULL;
    pthread_mutex_lock(&lock);
    if (n_blocks < MAX_BLOCKS && (on_host || used + size <= total)) {
        void *start = mmap(NULL, mapped, PROT_READ | PROT_WRITE,
                           MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        if (start != MAP_FAILED) {
            blocks[n_blocks++] = (Block){start, size, mapped, on_host};
            used += on_host ? 0 : size;
            *result = start;
            error = cudaSuccess;
        }
    }
    pthread_mutex_unlock(&lock);
    return error;
}

static cudaError_t release(void *address)
{
    pthread_mutex_lock(&lock);
    int i = address ? find(address) : -1;
    if (i >= 0) {
        used -= blocks[i].on_host ? 0 : blocks[i].size;
        munmap(blocks[i].start, blocks[i].mapped);
        blocks[i] = blocks[--n_blocks];
    }
    pthread_mutex_unlock(&lock);
    return cudaSuccess;
}

cudaError_t cudaMalloc(void **p, size_t n) { return allocate(p, n, 0); }
cudaError_t cudaMallocAsync(void **p, size_t n, cudaStream_t s) { return allocate(p, n, 0); }
cudaError_t cudaFree(void *p) { return release(p); }
cudaError_t cudaFreeAsync(void *p, cudaStream_t s) { return release(p); }
cudaError_t cudaHostAlloc(void **p, size_t n, unsigned flags) { return allocate(p, n, 1); }
cudaError_t cudaFreeHost(void *p) { return release(p); }

cudaError_t cudaHostGetDevicePointer(void **device, void *host, unsigned flags)
{
    *device = host;
    return cudaSuccess;
}

cudaError_t cudaMemGetInfo(size_t *free_bytes, size_t *total_bytes)
{
    *total_bytes = total;
    *free_bytes = total - used;
    return cudaSuccess;
}

/* PyTorch asks this to tell pinned memory from other memory. */
cudaError_t cudaPointerGetAttributes(struct cudaPointerAttributes *a, const void *p)
{
    memset(a, 0, sizeof *a);
    a->type = cudaMemoryTypeUnregistered;
    pthread_mutex_lock(&lock);
    int i = find(p);
    if (i >= 0) {
        a->type = blocks[i].on_host ? cudaMemoryTypeHost : cudaMemoryTypeDevice;
        a->devicePointer = (void *)p;
        a->hostPointer = blocks[i].on_host ? (void *)p : NULL;
    }
    pthread_mutex_unlock(&lock);
    return cudaSuccess;
}

/* The address of a __device__ variable: any memory will do. */
cudaError_t cudaGetSymbolAddress(void **p, const void *symbol)
{
    *p = calloc(1, 1 << 20);
    return *p ? cudaSuccess : cudaErrorMemoryAllocation;
}

/* ---- Copies: done at once, on whatever stream ------------------------------------------------ */

cudaError_t cudaMemcpy(void *to, const void *from, size_t n, enum cudaMemcpyKind kind)
{
    memmove(to, from, n);
    return cudaSuccess;
}

cudaError_t cudaMemcpyAsync(void *to, const void *from, size_t n, enum cudaMemcpyKind kind, cudaStream_t s)
{
    return cudaMemcpy(to, from, n, kind);
}

cudaError_t cudaMemcpyPeerAsync(void *to, int a, const void *from, int b, size_t n, cudaStream_t s)
{
    return cudaMemcpy(to, from, n, cudaMemcpyDeviceToDevice);
}

cudaError_t cudaMemset(void *p, int value, size_t n)
{
    memset(p, value, n);
    return cudaSuccess;
}

cudaError_t cudaMemsetAsync(void *p, int value, size_t n, cudaStream_t s)
{
    return cudaMemset(p, value, n);
}

/* ---- The device ----------------------------------------------------------------------------- */

cudaError_t cudaGetDeviceCount(int *n) { *n = 1; return cudaSuccess; }
cudaError_t cudaGetDevice(int *device) { *device = 0; return cudaSuccess; }
cudaError_t cudaSetDevice(int device) { return device ? cudaErrorInvalidDevice : cudaSuccess; }
cudaError_t cudaDriverGetVersion(int *version) { *version = CUDART_VERSION; return cudaSuccess; }
cudaError_t cudaRuntimeGetVersion(int *version) { *version = CUDART_VERSION; return cudaSuccess; }

/* Of an H200 (compute capability 9.0), for they decide which kernels PyTorch and Inductor choose. */
cudaError_t cudaGetDeviceProperties(struct cudaDeviceProp *p, int device)
{
    memset(p, 0, sizeof *p);
    snprintf(p->name, sizeof p->name, "NVIDIA H200 (stub)");
    p->major = 9;
    p->minor = 0;
    p->totalGlobalMem = total;
    p->multiProcessorCount = 132;
    p->warpSize = 32;
    p->maxThreadsPerMultiProcessor = 2048;
    p->maxThreadsPerBlock = 1024;
    p->maxBlocksPerMultiProcessor = 32;
    p->regsPerMultiprocessor = 65536;
    p->regsPerBlock = 65536;
    p->sharedMemPerBlock = 49152;
    p->sharedMemPerBlockOptin = 232448;
    p->sharedMemPerMultiprocessor = 233472;
    p->l2CacheSize = 60 << 20;
    p->maxGridSize[0] = 2147483647;
    p->maxGridSize[1] = 65535;
    p->maxGridSize[2] = 65535;
    p->maxThreadsDim[0] = 1024;
    p->maxThreadsDim[1] = 1024;
    p->maxThreadsDim[2] = 64;
    p->textureAlignment = 512;
    p->memoryBusWidth = 6144;
    p->concurrentKernels = 1;
    p->unifiedAddressing = 1;
    p->managedMemory = 1;
    return cudaSuccess;
}

cudaError_t cudaDeviceGetAttribute(int *value, enum cudaDeviceAttr attribute, int device)
{
    switch (attribute) {
    case cudaDevAttrMultiProcessorCount: *value = 132; break;
    case cudaDevAttrComputeCapabilityMajor: *value = 9; break;
    case cudaDevAttrComputeCapabilityMinor: *value = 0; break;
    case cudaDevAttrMaxSharedMemoryPerBlockOptin: *value = 232448; break;
    case cudaDevAttrMaxThreadsPerBlock: *value = 1024; break;
    case cudaDevAttrWarpSize: *value = 32; break;
    default: *value = 1;
    }
    return cudaSuccess;
}

cudaError_t cudaDeviceGetStreamPriorityRange(int *least, int *greatest)
{
    if (least)
        *least = 0;
    if (greatest)
        *greatest = -5;
    return cudaSuccess;
}

cudaError_t cudaDeviceGetPCIBusId(char *id, int size, int device)
{
    snprintf(id, size, "0000:00:00.0");
    return cudaSuccess;
}

/* ---- Streams and events: handles that differ, and nothing ever to wait for -------------------- */

static void *new_handle(void)
{
    static uintptr_t last = 4096;
    return (void *)__sync_add_and_fetch(&last, 64);
}

cudaError_t cudaEventElapsedTime(float *ms, cudaEvent_t a, cudaEvent_t b) { *ms = 1; return cudaSuccess; }
cudaError_t cudaEventCreate(cudaEvent_t *e) { *e = new_handle(); return cudaSuccess; }
cudaError_t cudaEventCreateWithFlags(cudaEvent_t *e, unsigned f) { return cudaEventCreate(e); }
cudaError_t cudaStreamCreate(cudaStream_t *s) { *s = new_handle(); return cudaSuccess; }
cudaError_t cudaStreamCreateWithFlags(cudaStream_t *s, unsigned f) { return cudaStreamCreate(s); }
cudaError_t cudaStreamCreateWithPriority(cudaStream_t *s, unsigned f, int p) { return cudaStreamCreate(s); }
cudaError_t cudaStreamGetPriority(cudaStream_t s, int *p) { *p = 0; return cudaSuccess; }

cudaError_t cudaLaunchHostFunc(cudaStream_t s, cudaHostFn_t function, void *data)
{
    function(data);
    return cudaSuccess;
}

/* Capture is never on; graphs are not supported. */
cudaError_t cudaStreamIsCapturing(cudaStream_t s, enum cudaStreamCaptureStatus *status)
{
    *status = cudaStreamCaptureStatusNone;
    return cudaSuccess;
}

#if CUDART_VERSION >= 13000
cudaError_t cudaStreamGetCaptureInfo(cudaStream_t s, enum cudaStreamCaptureStatus *status,
                                     unsigned long long *id, cudaGraph_t *graph,
                                     const cudaGraphNode_t **nodes, const cudaGraphEdgeData **edges, size_t *n)
#else
cudaError_t cudaStreamGetCaptureInfo(cudaStream_t s, enum cudaStreamCaptureStatus *status,
                                     unsigned long long *id, cudaGraph_t *graph,
                                     const cudaGraphNode_t **nodes, size_t *n)
#endif
{
    if (status)
        *status = cudaStreamCaptureStatusNone;
    if (id)
        *id = 0;
    return cudaSuccess;
}

cudaError_t cudaStreamBeginCapture(cudaStream_t s, enum cudaStreamCaptureMode mode)
{
    return cudaErrorNotSupported;
}

/* ---- Kernels: launching them is one of the generated functions that do nothing --------------- */

cudaError_t __cudaGetKernel(void **kernel, const void *function)
{
    *kernel = (void *)function;
    return cudaSuccess;
}

cudaError_t __cudaPopCallConfiguration(dim3 *grid, dim3 *block, size_t *memory, void *stream)
{
    *grid = (dim3){1, 1, 1};
    *block = (dim3){1, 1, 1};
    *memory = 0;
    *(void **)stream = NULL;
    return cudaSuccess;
}

cudaError_t cudaFuncGetAttributes(struct cudaFuncAttributes *a, const void *f)
{
    memset(a, 0, sizeof *a);
    a->maxThreadsPerBlock = 1024;
    a->numRegs = 32;
    a->ptxVersion = 90;
    a->binaryVersion = 90;
    a->maxDynamicSharedSizeBytes = 49152;
    return cudaSuccess;
}

cudaError_t cudaOccupancyMaxActiveBlocksPerMultiprocessor(int *n, const void *f, int block, size_t memory)
{
    *n = 4;
    return cudaSuccess;
}

cudaError_t cudaOccupancyMaxActiveBlocksPerMultiprocessorWithFlags(int *n, const void *f, int block, size_t memory, unsigned flags)
{
    *n = 4;
    return cudaSuccess;
}

/* ---- Errors ---------------------------------------------------------------------------------- */

cudaError_t cudaGetLastError(void) { return cudaSuccess; }
cudaError_t cudaPeekAtLastError(void) { return cudaSuccess; }

const char *cudaGetErrorString(cudaError_t error)
{
    switch (error) {
    case cudaSuccess: return "no error";
    case cudaErrorMemoryAllocation: return "out of memory (stub)";
    case cudaErrorInvalidDevice: return "invalid device ordinal (the stub has one device)";
    case cudaErrorNotSupported: return "operation not supported by the stub";
    default: return "unknown error (stub)";
    }
}

const char *cudaGetErrorName(cudaError_t error) { return cudaGetErrorString(error); }

/* ---- Functions of the driver that PyTorch finds by name -------------------------------------- */

static int nothing(void) { return 0; }
static int not_supported(void) { return cudaErrorNotSupported; }

static int primary_context_is_active(int device, unsigned *flags, int *active)
{
    if (flags)
        *flags = 0;
    if (active)
        *active = 1;
    return 0;
}

static int error_text(int error, const char **text)
{
    *text = cudaGetErrorString(error);
    return 0;
}

#if CUDART_VERSION >= 12000
cudaError_t cudaGetDriverEntryPointByVersion(const char *symbol, void **function, unsigned version,
                                             unsigned long long flags,
                                             enum cudaDriverEntryPointQueryResult *result)
{
    *function = nothing;
    if (!strcmp(symbol, "cuDevicePrimaryCtxGetState"))
        *function = primary_context_is_active;
    if (!strcmp(symbol, "cuGetErrorString"))
        *function = error_text;
    if (!strncmp(symbol, "cuMem", 5) || !strncmp(symbol, "cuMulticast", 11))
        *function = not_supported; /* virtual memory: expandable_segments, symmetric memory */
    if (result)
        *result = cudaDriverEntryPointSuccess;
    return cudaSuccess;
}
#endif

/* ---- cuBLAS: handles; the products are generated, and do nothing ------------------------------ */

static int new_object(void **object)
{
    *object = calloc(1, 64);
    return 0;
}

int cublasCreate_v2(void **h) { return new_object(h); }
int cublasLtMatmulDescCreate(void **d) { return new_object(d); }
int cublasLtMatrixLayoutCreate(void **l) { return new_object(l); }
int cublasLtMatmulPreferenceCreate(void **p) { return new_object(p); }
int cublasGetMathMode(void *h, int *mode) { *mode = 0; return 0; }
int cublasGetPointerMode_v2(void *h, int *mode) { *mode = 0; return 0; }
size_t cublasLtGetVersion(void) { return 130100; }

/* One algorithm is found; nobody looks into it. */
int cublasLtMatmulAlgoGetHeuristic(void *handle, void *product, void *a, void *b, void *c, void *d,
                                   void *preference, int wanted, void *results, int *found)
{
    *found = 1;
    return 0;
}

/* ---- cuDNN is off ---------------------------------------------------------------------------- */

/* These replace at::Context::userEnabledCuDNN() const of PyTorch, which torch.backends.cudnn.enabled
 * shows. The real cuDNN ends in a segmentation fault here; without it PyTorch takes its own
 * convolutions. Setting torch.backends.cudnn.enabled has no effect under the stub. Where nothing is
 * computed, of tensors without values, $STUB_CUDNN has PyTorch choose layouts for cuDNN. */
int _ZNK2at7Context16userEnabledCuDNNEv(void *context) { return getenv("STUB_CUDNN") != 0; }
int _ZNK2at7Context19userEnabledCuDNNSDPEv(void *context) { return 0; } /* its attention */
