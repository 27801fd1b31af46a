/* Makes the call in FAULT_AT fail, or the process die in its place (FAULT_KILLS), among those that change files. Counted from 1, in the
 * process that has the number: programs that it runs change nothing by these calls. FAULT_LOG gets a line for each. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

static int fails(const char *call) {
    static int count;
    const char *at = getenv("FAULT_AT"), *log = getenv("FAULT_LOG");
    count++;
    if (log) {
        char line[64];
        int length = snprintf(line, sizeof line, "%s\n", call);
        int file = syscall(SYS_openat, AT_FDCWD, log, O_CREAT | O_WRONLY | O_APPEND, 0644);
        syscall(SYS_write, file, line, length);
        syscall(SYS_close, file);
    }
    if (!at || count != atoi(at)) return 0;
    if (getenv("FAULT_KILLS")) raise(SIGKILL);
    errno = ENOSPC;
    return 1;
}

#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

int rename(const char *from, const char *to) { return fails("rename") ? -1 : REAL(rename)(from, to); }
int symlink(const char *to, const char *at) { return fails("symlink") ? -1 : REAL(symlink)(to, at); }
int unlink(const char *path) { return fails("unlink") ? -1 : REAL(unlink)(path); }
int mkdir(const char *path, mode_t mode) { return fails("mkdir") ? -1 : REAL(mkdir)(path, mode); }
int chmod(const char *path, mode_t mode) { return fails("chmod") ? -1 : REAL(chmod)(path, mode); }
int fchmod(int file, mode_t mode) { return fails("fchmod") ? -1 : REAL(fchmod)(file, mode); }
int fsync(int file) { return fails("fsync") ? -1 : REAL(fsync)(file); }

ssize_t write(int file, const void *bytes, size_t length) {
    struct stat facts;
    if (file > 2 && !fstat(file, &facts) && S_ISREG(facts.st_mode) && fails("write")) return -1;
    return REAL(write)(file, bytes, length);
}

int open64(const char *path, int flags, ...) {
    va_list rest;
    va_start(rest, flags);
    mode_t mode = flags & O_CREAT ? va_arg(rest, mode_t) : 0;
    va_end(rest);
    if (flags & O_CREAT && fails("create")) return -1;
    return REAL(open64)(path, flags, mode);
}
