/* A GPU that does nothing, as a shared library in the place of CUDA's runtime, driver and cuBLAS.
 *
 * Memory is the host's, and kernels are counted and not run. As nobody has computed what is read back, it is zeros: never
 * what happens to lie there, which would send a program anywhere. What CUDA forbids while a stream captures is refused
 * with CUDA's own error, and remembered. So everything but time, numbers and the order of streams can be shown without a
 * GPU: that a step is captured, how often the host waits, what is compiled, how a command ends.
 *
 * gcc alone builds it. The few types are declared here; layouts are those of CUDA 13.0 on Linux x86-64. Functions that
 * are missing here are found in the real libraries, where they need no device.
 *
 *     gcc -shared -fPIC -O1 -o libcuda.so.1 nullgpu.c -ldl -lpthread
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <execinfo.h>
#include <malloc.h>
#include <pthread.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef int Result;                       /* cudaError_t, CUresult, cublasStatus_t: 0 is success */
typedef void *Handle;                     /* of whatever kind */
typedef struct { unsigned x, y, z; } Dim3;
typedef struct { Dim3 grid, block; size_t shared; Handle stream; } RuntimeLaunch;           /* cudaLaunchConfig_t */
typedef struct { unsigned grid[3], block[3], shared; Handle stream; } DriverLaunch;         /* CUlaunchConfig */

enum { MEMORY_ALLOCATION = 2, INSUFFICIENT_DRIVER = 35, DEVICES_UNAVAILABLE = 46, CAPTURE_UNSUPPORTED = 900, CAPTURE_INVALIDATED = 901 };
enum { GLOBAL = 0, THREAD_LOCAL = 1, RELAXED = 2 };                                         /* capture modes */
enum { HOST_TO_DEVICE = 1, DEVICE_TO_HOST = 2, DEVICE_TO_DEVICE = 3 };

static const char NAME[] = "Null H100";
enum { MAJOR = 9, MINOR = 0, PROCESSORS = 132, SHARED_OPTIN = 232448, REGISTERS = 65536 };

/* ---- what happened: read by tests/nullgpu/inside.py ---- */

enum { LAUNCHES, CAPTURED, COPIES, REPLAYS, ALLOCATIONS, WAITS, ILLEGAL, KINDS };
static long counts[KINDS];
static char illegal[64][128];
static size_t allocated, limit = (size_t)80 << 30;
static int refuses_capture, is_busy, driver = 13000;

long null_gpu_count(int kind) { return counts[kind]; }
const char *null_gpu_illegal(int number) { return number < counts[ILLEGAL] && number < 64 ? illegal[number] : ""; }
void null_gpu_limit(size_t bytes) { limit = bytes; }
void null_gpu_refuse_capture(int refuses) { refuses_capture = refuses; }
void null_gpu_busy(int busy) { is_busy = busy; }                 /* in exclusive mode, with somebody else's process */
void null_gpu_driver(int version) { driver = version; }

/* ---- errors and captures ---- */

static __thread Result last_error;
static __thread int thread_mode = GLOBAL;
static Handle capturing;          /* the stream that captures, or NULL */
static pthread_t capturer;
static int capture_mode, capture_is_broken;
static unsigned long long capture_id;

static Result failed(Result error) { last_error = error; return error; }

static int captures(Handle stream) { return capturing && stream == capturing; }

/* Remembers a call that CUDA refuses now, and breaks the capture as CUDA does. */
static Result refused(const char *what)
{
    if (counts[ILLEGAL] < 64) snprintf(illegal[counts[ILLEGAL]], sizeof illegal[0], "%s", what);
    counts[ILLEGAL]++;
    capture_is_broken = 1;
    if (getenv("NULL_GPU_TRACE")) {
        void *frames[32];
        fprintf(stderr, "null GPU: %s during a capture\n", what);
        backtrace_symbols_fd(frames, backtrace(frames, 32), 2);
    }
    return failed(CAPTURE_UNSUPPORTED);
}

/* For calls that may wait or allocate: forbidden to this thread while the capture's mode says so. */
static Result unsafe(const char *what)
{
    if (!capturing || thread_mode == RELAXED || capture_mode == RELAXED) return 0;
    if (capture_mode == THREAD_LOCAL && !pthread_equal(capturer, pthread_self())) return 0;
    return refused(what);
}

Result cudaGetLastError(void) { Result error = last_error; last_error = 0; return error; }
Result cudaPeekAtLastError(void) { return last_error; }

Result cudaThreadExchangeStreamCaptureMode(int *mode) { int old = thread_mode; thread_mode = *mode; *mode = old; return 0; }

Result cudaStreamBeginCapture(Handle stream, int mode)
{
    if (!stream) return refused("capture of the default stream");
    capturing = stream; capturer = pthread_self(); capture_mode = mode; capture_is_broken = 0; capture_id++;
    counts[CAPTURED] = 0;
    return 0;
}

Result cudaStreamEndCapture(Handle stream, Handle *graph)
{
    int broken = capture_is_broken || refuses_capture;
    capturing = NULL;
    *graph = broken ? NULL : (Handle)0x77;
    return broken ? failed(CAPTURE_INVALIDATED) : 0;
}

Result cudaStreamIsCapturing(Handle stream, int *status) { *status = captures(stream); return 0; }

Result cudaStreamGetCaptureInfo(Handle stream, int *status, unsigned long long *id, Handle *graph, const Handle **nodes,
                                const void **edges, size_t *count)
{
    *status = captures(stream);
    if (id) *id = capture_id;
    if (graph) *graph = (Handle)0x77;
    if (nodes) *nodes = NULL;
    if (edges) *edges = NULL;
    if (count) *count = 0;
    return 0;
}

Result cudaGraphInstantiateWithFlags(Handle *executable, Handle graph, unsigned long long flags) { *executable = (Handle)0x78; return 0; }
Result cudaGraphLaunch(Handle executable, Handle stream) { counts[REPLAYS]++; return 0; }
Result cudaGraphDestroy(Handle graph) { return 0; }
Result cudaGraphExecDestroy(Handle executable) { return 0; }
Result cudaGraphGetNodes(Handle graph, Handle *nodes, size_t *count) { *count = counts[CAPTURED]; return 0; }
Result cudaUserObjectCreate(Handle *object, void *data, void *destroy, unsigned count, unsigned flags) { *object = (Handle)1; return 0; }
Result cudaGraphRetainUserObject(Handle graph, Handle object, unsigned count, unsigned flags) { return 0; }

/* ---- kernels ---- */

static Result launch(Handle stream)
{
    counts[LAUNCHES]++;
    if (captures(stream)) counts[CAPTURED]++;
    else if (capturing && pthread_equal(capturer, pthread_self())) return refused("kernel on another stream");
    return 0;
}

Result cudaLaunchKernel(const void *kernel, Dim3 grid, Dim3 block, void **arguments, size_t shared, Handle stream) { return launch(stream); }
Result __cudaLaunchKernel(Handle kernel, Dim3 grid, Dim3 block, void **arguments, size_t shared, Handle stream) { return launch(stream); }
Result __cudaGetKernel(Handle *kernel, const void *function) { *kernel = (Handle)function; return 0; }
Result cudaLaunchKernelExC(const RuntimeLaunch *how, const void *kernel, void **arguments) { return launch(how->stream); }
Result cudaLaunchHostFunc(Handle stream, void *function, void *data) { return 0; }

/* sharedSizeBytes, constSizeBytes, localSizeBytes: size_t; maxThreadsPerBlock, numRegs, ptxVersion, binaryVersion: int */
Result cudaFuncGetAttributes(void *attributes, const void *kernel)
{
    memset(attributes, 0, 3 * sizeof(size_t) + 4 * sizeof(int));
    int *numbers = (int *)((char *)attributes + 3 * sizeof(size_t));
    numbers[0] = 1024; numbers[1] = 32; numbers[2] = numbers[3] = 10 * MAJOR + MINOR;
    return 0;
}

Result cudaFuncSetAttribute(const void *kernel, int attribute, int value) { return 0; }
Result cudaOccupancyMaxActiveBlocksPerMultiprocessorWithFlags(int *blocks, const void *kernel, int size, size_t shared, unsigned flags) { *blocks = 2; return 0; }

/* ---- memory ---- */

static Result allocate(void **pointer, size_t bytes, const char *what)
{
    if (unsafe(what)) return last_error;
    if (is_busy) return failed(DEVICES_UNAVAILABLE);
    if (allocated + bytes > limit || posix_memalign(pointer, 512, bytes)) return failed(MEMORY_ALLOCATION);
    counts[ALLOCATIONS]++;
    memset(*pointer, 0, bytes < (64u << 20) ? bytes : 0);  /* larger pieces come from the system, as zeros */
    return 0;
}

Result cudaMalloc(void **pointer, size_t bytes)
{
    Result result = allocate(pointer, bytes, "cudaMalloc");
    if (!result) allocated += malloc_usable_size(*pointer);
    return result;
}

Result cudaFree(void *pointer)
{
    if (unsafe("cudaFree")) return last_error;
    if (pointer) allocated -= malloc_usable_size(pointer);
    free(pointer);
    return 0;
}

Result cudaHostAlloc(void **pointer, size_t bytes, unsigned flags) { return allocate(pointer, bytes, "cudaHostAlloc"); }
Result cudaFreeHost(void *pointer) { if (unsafe("cudaFreeHost")) return last_error; free(pointer); return 0; }
Result cudaMemGetInfo(size_t *available, size_t *total) { *total = limit; *available = limit > allocated ? limit - allocated : 0; return 0; }

/* type, device: int; devicePointer, hostPointer: void *; unregistered memory is type 0 */
Result cudaPointerGetAttributes(void *attributes, const void *pointer) { memset(attributes, 0, 24); return 0; }

/* What comes back is zeros: see above. */
static void copy(void *to, const void *from, size_t bytes, int kind)
{
    if (kind == DEVICE_TO_HOST) memset(to, 0, bytes); else memmove(to, from, bytes);
}

Result cudaMemcpyAsync(void *to, const void *from, size_t bytes, int kind, Handle stream)
{
    counts[COPIES]++;
    if (captures(stream)) return kind == DEVICE_TO_DEVICE ? 0 : refused("copy between host and device in the capture");
    if (capturing && !stream && pthread_equal(capturer, pthread_self())) return refused("copy on the default stream");
    copy(to, from, bytes, kind);
    return 0;
}

Result cudaMemcpy(void *to, const void *from, size_t bytes, int kind)
{
    counts[COPIES]++;
    if (unsafe("cudaMemcpy")) return last_error;
    copy(to, from, bytes, kind);
    return 0;
}

Result cudaMemsetAsync(void *to, int value, size_t bytes, Handle stream)
{
    if (captures(stream)) counts[CAPTURED]++; else memset(to, value, bytes);
    return 0;
}

Result cudaMemset(void *to, int value, size_t bytes) { memset(to, value, bytes); return 0; }

/* ---- streams and events ---- */

static uintptr_t next_handle = 0x1000;
static Result create(Handle *handle)
{
    *handle = (Handle)__sync_add_and_fetch(&next_handle, 16);
    return is_busy ? failed(DEVICES_UNAVAILABLE) : 0;
}

Result cudaStreamCreate(Handle *stream) { return create(stream); }
Result cudaStreamCreateWithFlags(Handle *stream, unsigned flags) { return create(stream); }
Result cudaStreamCreateWithPriority(Handle *stream, unsigned flags, int priority) { return create(stream); }
Result cudaStreamDestroy(Handle stream) { return 0; }
Result cudaStreamGetPriority(Handle stream, int *priority) { *priority = 0; return 0; }
Result cudaStreamWaitEvent(Handle stream, Handle event, unsigned flags) { return 0; }
Result cudaStreamQuery(Handle stream) { return unsafe("cudaStreamQuery"); }
Result cudaStreamSynchronize(Handle stream)
{
    counts[WAITS]++;
    return captures(stream) ? refused("wait for the stream that captures") : unsafe("cudaStreamSynchronize");
}
Result cudaDeviceSynchronize(void) { counts[WAITS]++; return unsafe("cudaDeviceSynchronize"); }

Result cudaEventCreate(Handle *event) { return create(event); }
Result cudaEventCreateWithFlags(Handle *event, unsigned flags) { return create(event); }
Result cudaEventDestroy(Handle event) { return 0; }
Result cudaEventRecord(Handle event, Handle stream) { return 0; }
Result cudaEventRecordWithFlags(Handle event, Handle stream, unsigned flags) { return 0; }
Result cudaEventQuery(Handle event) { return unsafe("cudaEventQuery"); }
Result cudaEventSynchronize(Handle event) { counts[WAITS]++; return unsafe("cudaEventSynchronize"); }
Result cudaEventElapsedTime(float *milliseconds, Handle start, Handle end) { *milliseconds = 1; return 0; }

/* ---- the device, as the runtime describes it ---- */

/* The head of cudaDeviceProp of CUDA 13; what follows is left 0. */
typedef struct {
    char name[256], uuid[16], luid[8];
    unsigned luid_mask;
    size_t memory, shared_per_block;
    int registers_per_block, warp;
    size_t pitch;
    int threads_per_block, block_sides[3], grid_sides[3];
    size_t constants;
    int major, minor;
    size_t texture_alignment, texture_pitch;
    int processors, textures_and_surfaces[41];
    size_t surface_alignment;
    int kernels_at_once, ecc, pci[3], tcc, copy_engines, unified, bus_width, l2, l2_persisting, threads_per_processor;
    int priorities, l1_global, l1_local;
    size_t shared_per_processor;
    int registers_per_processor, managed[8];
    int cooperative;
    size_t shared_optin;
} Properties;

_Static_assert(offsetof(Properties, memory) == 288 && offsetof(Properties, major) == 360, "CUDA 13's layout");
_Static_assert(offsetof(Properties, l2) == 596 && offsetof(Properties, shared_optin) == 672, "CUDA 13's layout");

Result cudaGetDeviceCount(int *count) { *count = 1; return driver < 13000 ? failed(INSUFFICIENT_DRIVER) : 0; }
Result cudaGetDevice(int *device) { *device = 0; return 0; }
Result cudaSetDevice(int device) { return is_busy ? failed(DEVICES_UNAVAILABLE) : 0; }
Result cudaDriverGetVersion(int *version) { *version = driver; return 0; }
Result cudaRuntimeGetVersion(int *version) { *version = 13000; return 0; }
Result cudaDeviceGetStreamPriorityRange(int *least, int *greatest) { if (least) *least = 0; if (greatest) *greatest = -5; return 0; }
Result cudaDeviceCanAccessPeer(int *can, int device, int peer) { *can = 0; return 0; }
Result cudaDeviceGetPCIBusId(char *text, int size, int device) { snprintf(text, size, "0000:00:00.0"); return 0; }

Result cudaGetDeviceProperties(Properties *found, int device)
{
    memset(found, 0, sizeof *found);
    strcpy(found->name, NAME);
    found->memory = (size_t)80 << 30; found->shared_per_block = 49152; found->registers_per_block = REGISTERS;
    found->warp = 32; found->threads_per_block = 1024; found->texture_alignment = 512;
    found->block_sides[0] = found->block_sides[1] = 1024; found->block_sides[2] = 64;
    found->grid_sides[0] = 2147483647; found->grid_sides[1] = found->grid_sides[2] = 65535;
    found->major = MAJOR; found->minor = MINOR; found->processors = PROCESSORS; found->l2 = 50 << 20;
    found->threads_per_processor = 2048; found->shared_per_processor = 233472;
    found->registers_per_processor = REGISTERS; found->shared_optin = SHARED_OPTIN;
    return 0;
}

static int attribute_of(int attribute, int otherwise)
{
    switch (attribute) {                  /* the runtime's numbers are the driver's */
    case 1: return 1024;                  /* threads of a block */
    case 5: return 2147483647;            /* blocks of a grid: sorts and scans are launched in parts of so many */
    case 6: case 7: return 65535;
    case 8: return 49152;
    case 10: return 32;                   /* threads of a warp */
    case 12: return REGISTERS;
    case 16: return PROCESSORS;
    case 75: return MAJOR;
    case 76: return MINOR;
    case 97: return SHARED_OPTIN;
    default: return otherwise;
    }
}

Result cudaDeviceGetAttribute(int *value, int attribute, int device) { *value = attribute_of(attribute, 0); return 0; }

/* ---- the driver, which Triton calls ---- */

Result cuInit(unsigned flags) { return 0; }
Result cuDriverGetVersion(int *version) { *version = 13000; return 0; }
Result cuDeviceGetCount(int *count) { *count = 1; return 0; }
Result cuDeviceGet(int *device, int number) { *device = 0; return 0; }
Result cuDeviceGetName(char *text, int size, int device) { snprintf(text, size, "%s", NAME); return 0; }
Result cuDeviceGetAttribute(int *value, int attribute, int device) { *value = attribute_of(attribute, 1024); return 0; }
Result cuDevicePrimaryCtxGetState(int device, unsigned *flags, int *active) { *flags = 0; *active = 1; return 0; }
Result cuDevicePrimaryCtxRetain(Handle *context, int device) { *context = (Handle)9; return 0; }
Result cuCtxGetCurrent(Handle *context) { *context = (Handle)9; return 0; }
Result cuCtxSetCurrent(Handle context) { return 0; }
Result cuCtxGetDevice(int *device) { *device = 0; return 0; }
Result cuCtxPushCurrent_v2(Handle context) { return 0; }
Result cuCtxPopCurrent_v2(Handle *context) { *context = (Handle)9; return 0; }
Result cuCtxSynchronize(void) { return 0; }
Result cuCtxSetLimit(int which, size_t value) { return 0; }
Result cuCtxGetLimit(size_t *value, int which) { *value = 0; return 0; }
Result cuCtxGetStreamPriorityRange(int *least, int *greatest) { *least = *greatest = 0; return 0; }
Result cuGetErrorString(Result error, const char **text) { *text = "an error of the null GPU"; return 0; }
Result cuGetErrorName(Result error, const char **text) { *text = "NULL_GPU_ERROR"; return 0; }

Result cuPointerGetAttribute(void *value, int attribute, unsigned long long pointer)
{
    if (attribute == 3) *(unsigned long long *)value = pointer;   /* the device pointer is the pointer */
    else *(int *)value = 0;
    return 0;
}

static Result load(Handle *module, const char *what) { *module = (Handle)0x11; return unsafe(what); }
Result cuModuleLoad(Handle *module, const char *file) { return load(module, "cuModuleLoad"); }
Result cuModuleLoadData(Handle *module, const void *image) { return load(module, "cuModuleLoadData"); }
Result cuModuleLoadDataEx(Handle *module, const void *image, unsigned count, void *options, void **values) { return load(module, "cuModuleLoadDataEx"); }
Result cuModuleUnload(Handle module) { return 0; }
Result cuModuleGetFunction(Handle *function, Handle module, const char *name) { *function = (Handle)0x12; return 0; }
Result cuFuncGetAttribute(int *value, int attribute, Handle function) { *value = attribute == 0 ? 1024 : attribute == 4 ? 32 : 0; return 0; }
Result cuFuncSetAttribute(Handle function, int attribute, int value) { return 0; }
Result cuFuncSetCacheConfig(Handle function, int how) { return 0; }
Result cuOccupancyMaxActiveBlocksPerMultiprocessor(int *blocks, Handle function, int size, size_t shared) { *blocks = 2; return 0; }
Result cuOccupancyMaxActiveClusters(int *clusters, Handle function, const DriverLaunch *how) { *clusters = 1; return 0; }
Result cuLaunchKernel(Handle function, unsigned gx, unsigned gy, unsigned gz, unsigned bx, unsigned by, unsigned bz, unsigned shared, Handle stream, void **arguments, void **extra) { return launch(stream); }
Result cuLaunchKernelEx(const DriverLaunch *how, Handle function, void **arguments, void **extra) { return launch(how->stream); }
Result cuLaunchCooperativeKernel(Handle function, unsigned gx, unsigned gy, unsigned gz, unsigned bx, unsigned by, unsigned bz, unsigned shared, Handle stream, void **arguments) { return launch(stream); }
Result cuLinkCreate_v2(unsigned count, void *options, void **values, Handle *linker) { return 0; }
Result cuLinkAddData_v2(Handle linker, int type, void *data, size_t size, const char *name, unsigned count, void *options, void **values) { return 0; }
Result cuLinkComplete(Handle linker, void **image, size_t *size) { return 0; }
Result cuTensorMapEncodeTiled(void *map, int type, unsigned rank, void *address, const void *sizes, const void *strides, const void *box, const void *steps, int interleave, int swizzle, int promotion, int fill) { return 0; }

/* torch asks the runtime for the driver's functions. */
Result cudaGetDriverEntryPointByVersion(const char *name, void **function, unsigned version, unsigned long long flags, int *found)
{
    *function = dlsym(RTLD_DEFAULT, name);
    if (found) *found = *function ? 0 : 1;
    return 0;
}

/* ---- cuBLAS: each product is a launch ---- */

static Handle blas_stream;
Result cublasCreate_v2(Handle *blas) { if (unsafe("cublasCreate")) return last_error; *blas = calloc(1, 4096); return 0; }
Result cublasDestroy_v2(Handle blas) { return 0; }
Result cublasSetStream_v2(Handle blas, Handle stream) { blas_stream = stream; return 0; }
Result cublasSetWorkspace_v2(Handle blas, void *workspace, size_t bytes) { return 0; }
Result cublasGetMathMode(Handle blas, int *mode) { *mode = 0; return 0; }
Result cublasSetMathMode(Handle blas, int mode) { return 0; }
Result cublasGetPointerMode_v2(Handle blas, int *mode) { *mode = 0; return 0; }
Result cublasSetPointerMode_v2(Handle blas, int mode) { return 0; }
Result cublasGemmEx(Handle blas) { return launch(blas_stream); }       /* its many arguments are not looked at */
Result cublasSgemm_v2(Handle blas) { return launch(blas_stream); }
Result cublasDgemm_v2(Handle blas) { return launch(blas_stream); }
Result cublasDgemmStridedBatched(Handle blas) { return launch(blas_stream); }
Result cublasGemmStridedBatchedEx(Handle blas) { return launch(blas_stream); }
Result cublasSgemmStridedBatched(Handle blas) { return launch(blas_stream); }

/* cublasLtMatmulHeuristicResult_t: 64 bytes of algorithm, workspace size, state, waves, 4 reserved */
Result cublasLtMatmulAlgoGetHeuristic(Handle blas, Handle product, Handle a, Handle b, Handle c, Handle d, Handle preference, int wanted, void *found, int *count)
{
    memset(found, 0, 96);
    *count = 1;
    return 0;
}

Result cublasLtMatmul(Handle blas, Handle product, const void *alpha, const void *a, Handle la, const void *b, Handle lb, const void *beta, const void *c, Handle lc, void *d, Handle ld, const void *algorithm, void *workspace, size_t bytes, Handle stream) { return launch(stream); }
