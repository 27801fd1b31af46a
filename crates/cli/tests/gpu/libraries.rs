//! Shared libraries in the place of NVIDIA's, compiled by the tests.

use std::fs;
use std::path::Path;
use std::process::Command;

/// A libcuda that supports CUDA 12.8 and starts.
pub(crate) const WORKS: &str =
    "int cuDriverGetVersion(int *v) { *v = 12080; return 0; } int cuInit(unsigned f) { return 0; }";

/// The toolkit's: newer than the driver, and the device lets it start.
pub(crate) const STARTS: &str =
    "int cuDriverGetVersion(int *v) { *v = 13000; return 0; } int cuInit(unsigned f) { return 0; }";

/// The toolkit's: the device does not let it start.
pub(crate) const REFUSES: &str =
    "int cuDriverGetVersion(int *v) { *v = 13000; return 0; } int cuInit(unsigned f) { return 804; }";

/// The toolkit's, on a kernel driver that it does not fit.
pub(crate) const MISMATCHES: &str =
    "int cuDriverGetVersion(int *v) { *v = 13000; return 0; } int cuInit(unsigned f) { return 803; }";

/// The toolkit's, while the driver gets ready: it starts at the third try.
pub(crate) const NOT_YET: &str = r#"
#include <stdio.h>
#include <stdlib.h>
int cuDriverGetVersion(int *v) { *v = 13000; return 0; }
int cuInit(unsigned f) {
  FILE *tries = fopen(getenv("FAKE_TRIES"), "a+");
  fputs("x", tries);
  long count = ftell(tries);
  fclose(tries);
  return count < 3 ? 3 : 0;
}"#;

/// The version in `FAKE_CUDA`, as `cuDriverGetVersion` counts: one library for many drivers.
pub(crate) const SAYS: &str = "#include <stdlib.h>\nint cuDriverGetVersion(int *v) { *v = atoi(getenv(\"FAKE_CUDA\")); \
                               return 0; } int cuInit(unsigned f) { return 0; }";

pub(crate) const HANGS: &str = "#include <unistd.h>\nint cuDriverGetVersion(int *v) { for (;;) pause(); } int cuInit(unsigned f) { for (;;) pause(); }";
pub(crate) const HANGS_WHEN_LOADED: &str =
    "#include <unistd.h>\n__attribute__((constructor)) static void f(void) { for (;;) pause(); }";
pub(crate) const CRASHES: &str = "#include <stdlib.h>\nint cuDriverGetVersion(int *v) { abort(); } int cuInit(unsigned f) { return *(volatile int *)0; }";
pub(crate) const FAILS: &str = "int cuDriverGetVersion(int *v) { return 3; }";
pub(crate) const TALKS: &str =
    "#include <stdio.h>\nint cuDriverGetVersion(int *v) { puts(\"12.9\"); fflush(stdout); *v = 12080; return 0; }";

/// Leaves a trace when it is loaded.
pub(crate) const TELLS: &str = r#"
#include <fcntl.h>
#include <stdlib.h>
__attribute__((constructor)) static void loaded(void) { open(getenv("FAKE_TRACE"), O_CREAT | O_WRONLY, 0644); }
int cuDriverGetVersion(int *v) { *v = 13000; return 0; }
int cuInit(unsigned f) { return 0; }"#;

/// An NVML whose devices are described by the environment: `FAKE_DEVICES`, a list of compute capabilities such as `9.0,7.5`. `FAKE_LOST`
/// is the index of one that has fallen off the bus, `FAKE_MIG` of one that is divided, `FAKE_NVML` what its start returns.
pub(crate) const NVML: &str = r#"
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
typedef struct { unsigned version; unsigned long long total, reserved, free, used; } mem;
typedef struct { unsigned gpu, memory; } util;
typedef struct { unsigned pid; unsigned long long used; unsigned gi, ci; } proc;
static int number(const char *name, int otherwise) { const char *t = getenv(name); return t ? atoi(t) : otherwise; }
/* A device is its index and 1; an instance of a divided one is 101 or 102. */
static int index_of(void *d) { return (int)(intptr_t)d - 1; }
static const char *device(int i) {
  const char *at = getenv("FAKE_DEVICES");
  while (at && i-- > 0) { at = strchr(at, ','); if (at) at++; }
  return at;
}
int nvmlInit_v2(void) { return number("FAKE_NVML", 0); }
int nvmlShutdown(void) { return 0; }
const char *nvmlErrorString(int code) { return "error"; }
int nvmlSystemGetDriverVersion(char *s, unsigned n) { snprintf(s, n, "%s", getenv("FAKE_DRIVER") ? getenv("FAKE_DRIVER") : "570.26"); return 0; }
int nvmlDeviceGetCount_v2(unsigned *n) { *n = 0; while (device(*n)) ++*n; return 0; }
int nvmlDeviceGetHandleByIndex_v2(unsigned i, void **d) { *d = (void *)(intptr_t)(i + 1); return (int)i == number("FAKE_LOST", -1) ? 15 : 0; }
int nvmlDeviceGetName(void *d, char *s, unsigned n) {
  int i = index_of(d);
  if (i >= 100) snprintf(s, n, "NVIDIA H200 MIG 1g.18gb"); else snprintf(s, n, "NVIDIA H200");
  return 0;
}
int nvmlDeviceGetUUID(void *d, char *s, unsigned n) {
  int i = index_of(d);
  if (i >= 100) snprintf(s, n, "MIG-%d", i - 100); else snprintf(s, n, "GPU-1234-%d", i);
  return 0;
}
int nvmlDeviceGetCudaComputeCapability(void *d, int *a, int *b) { return sscanf(device(index_of(d)), "%d.%d", a, b) == 2 ? 0 : 999; }
int nvmlDeviceGetMemoryInfo_v2(void *d, mem *m) {
  int whole = index_of(d) < 100;
  m->total = whole ? 150754820096ULL : 18253611008ULL; m->used = 1073741824ULL; m->free = 0; m->reserved = 0; return 0;
}
int nvmlDeviceGetUtilizationRates(void *d, util *u) { u->gpu = 37; u->memory = 5; return 0; }
int nvmlDeviceGetPowerUsage(void *d, unsigned *mw) { *mw = 75500; return 0; }
int nvmlDeviceGetEnforcedPowerLimit(void *d, unsigned *mw) { *mw = 700000; return 0; }
int nvmlDeviceGetTemperature(void *d, unsigned k, unsigned *t) { *t = 32; return 0; }
int nvmlDeviceGetMigMode(void *d, unsigned *c, unsigned *p) { *c = *p = index_of(d) == number("FAKE_MIG", -1); return 0; }
int nvmlDeviceGetMaxMigDeviceCount(void *d, unsigned *n) { *n = 7; return 0; }
/* Of seven places two are taken: the second and the fourth. */
int nvmlDeviceGetMigDeviceHandleByIndex(void *d, unsigned i, void **m) {
  *m = (void *)(intptr_t)(i == 1 ? 101 : 102); return i == 1 || i == 3 ? 0 : 6;
}
int nvmlDeviceGetComputeRunningProcesses_v3(void *d, unsigned *n, proc *p) {
  if (*n < 1) { *n = 1; return 7; }
  *n = 1; p[0].pid = 4242; p[0].used = 1048576; p[0].gi = 0xFFFFFFFF; p[0].ci = 0xFFFFFFFF; return 0;
}
"#;

/// Compiles a shared library.
pub(crate) fn library(path: &Path, code: &str, arguments: &[&str]) {
    compile(path, code, &[&["-shared", "-fPIC"], arguments].concat());
}

/// Compiles a program or library.
pub(crate) fn compile(path: &Path, code: &str, arguments: &[&str]) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    let mut source = path.as_os_str().to_owned();
    source.push(".c");
    fs::write(&source, code).unwrap();
    let status = Command::new("cc").arg("-o").arg(path).arg(&source).args(arguments).status();
    assert!(status.unwrap().success());
    fs::remove_file(source).unwrap();
}
