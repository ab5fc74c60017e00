/* Does one known thing, named by its first argument, and says on stderr what it used by its own account.
 *
 *   known PROGRAM [FOLDER]        FOLDER: a tmpfs for tmpfs-MIB; default /tmp
 *
 * Words of a PROGRAM are joined by '-', numbers are MiB, milliseconds or counts:
 *   null              nothing
 *   alloc-MIB         allocate and touch
 *   child-MIB         the same in a child, which is waited for
 *   burn-MS-THREADS   that much CPU time in all, by CLOCK_PROCESS_CPUTIME_ID from main() on, shared by the threads
 *   threads-N         start N threads; all N + 1 are alive at one moment, for 200 ms
 *   files-N           open N descriptors and hold them for 1.5 s: open files are looked at once a second
 *   tmpfs-MIB         write a file of this size into FOLDER, unlink it at the end
 *   output-MIB        write as much to stdout
 *   live-MS           be there for so long
 *   hang-MS-MIB       burn CPU, touch memory, then wait to be killed
 *   greedy-MIB        touch memory until there are MIB: more than its limit, so it is killed
 *
 * Small pages only (MADV_NOHUGEPAGE), so that what is touched is what is charged, to the page. Last line on stderr:
 *   known cpu_seconds=F
 * CPU time of this process since main() and of its waited-for children. What a program allocates it gives back
 * before that line, so that the cost of it is in there; only start and exit of the process are not.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define MIB ((size_t)1 << 20)
#define BLOCK ((size_t)64 << 10)

static void fail(const char *what) {
    perror(what);
    exit(3);
}

static double seconds(clockid_t clock) {
    struct timespec now;
    if (clock_gettime(clock, &now)) fail("clock_gettime");
    return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

static void wait_ms(long ms) {
    struct timespec left = {ms / 1000, ms % 1000 * 1000000L};
    while (nanosleep(&left, &left)) {}
}

static void touch(long mib, int give_back) {
    size_t bytes = (size_t)mib * MIB;
    long page = sysconf(_SC_PAGESIZE);
    char *place = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (place == MAP_FAILED) fail("mmap");
    madvise(place, bytes, MADV_NOHUGEPAGE); /* a kernel without huge pages refuses: just as well */
    for (size_t at = 0; at < bytes; at += (size_t)page) ((volatile char *)place)[at] = 1;
    if (give_back && munmap(place, bytes)) fail("munmap");
}

static double at_main, burn_until;

static void *burn(void *unused) {
    while (seconds(CLOCK_PROCESS_CPUTIME_ID) < burn_until) {}
    return unused;
}

static void burn_on(long ms, long threads) {
    pthread_t others[8];
    if (threads < 1 || threads > 8) exit(2);
    burn_until = at_main + (double)ms / 1000.0;
    for (long n = 1; n < threads; n++)
        if (pthread_create(&others[n], NULL, burn, NULL)) fail("pthread_create");
    burn(NULL);
    for (long n = 1; n < threads; n++) pthread_join(others[n], NULL);
}

static pthread_barrier_t all_alive;

static void *live(void *unused) {
    pthread_barrier_wait(&all_alive);
    wait_ms(200);
    return unused;
}

static void start_threads(long count) {
    pthread_t *all = calloc((size_t)count, sizeof *all);
    if (all == NULL || pthread_barrier_init(&all_alive, NULL, (unsigned)count + 1)) fail("barrier");
    for (long n = 0; n < count; n++)
        if (pthread_create(&all[n], NULL, live, NULL)) fail("pthread_create");
    live(NULL);
    for (long n = 0; n < count; n++) pthread_join(all[n], NULL);
}

static void open_files(long count) {
    for (long n = 0; n < count; n++)
        if (open("/dev/null", O_RDONLY) < 0) fail("open");
    wait_ms(1500);
}

static void write_all(int descriptor, long mib) {
    static char block[BLOCK];
    memset(block, 'x', sizeof block);
    for (size_t at = 0; at < BLOCK; at += 64) block[at] = '\n';
    for (size_t left = (size_t)mib * MIB; left > 0;) {
        ssize_t wrote = write(descriptor, block, left < BLOCK ? left : BLOCK);
        if (wrote < 0) fail("write");
        left -= (size_t)wrote;
    }
}

static void write_tmpfs(const char *folder, long mib) {
    char path[4096];
    snprintf(path, sizeof path, "%s/known-XXXXXX", folder);
    int descriptor = mkstemp(path);
    if (descriptor < 0) fail(path);
    unlink(path); /* its pages live as long as the descriptor, and no longer, however this ends */
    write_all(descriptor, mib);
    close(descriptor);
}

static void in_child(long mib) {
    pid_t child = fork();
    if (child < 0) fail("fork");
    if (child == 0) {
        touch(mib, 0);
        _exit(0);
    }
    int status;
    if (waitpid(child, &status, 0) < 0 || status != 0) exit(4);
}

static void report(void) {
    struct rusage children;
    if (getrusage(RUSAGE_CHILDREN, &children)) fail("getrusage");
    double cpu = seconds(CLOCK_PROCESS_CPUTIME_ID) - at_main +
                 (double)(children.ru_utime.tv_sec + children.ru_stime.tv_sec) +
                 (double)(children.ru_utime.tv_usec + children.ru_stime.tv_usec) / 1e6;
    fprintf(stderr, "known cpu_seconds=%.6f\n", cpu);
}

static int is(const char *program, const char *name) {
    size_t length = strlen(name);
    return strncmp(program, name, length) == 0 && (program[length] == '-' || program[length] == '\0');
}

int main(int count, char **words) {
    at_main = seconds(CLOCK_PROCESS_CPUTIME_ID);
    const char *program = count > 1 ? words[1] : "";
    const char *folder = count > 2 ? words[2] : "/tmp";
    long first = 0, second = 0;
    const char *numbers = strchr(program, '-');
    if (numbers) sscanf(numbers, "-%ld-%ld", &first, &second);

    if (is(program, "null")) {
    } else if (is(program, "alloc")) touch(first, 1);
    else if (is(program, "child")) in_child(first);
    else if (is(program, "burn")) burn_on(first, second);
    else if (is(program, "threads")) start_threads(first);
    else if (is(program, "files")) open_files(first);
    else if (is(program, "tmpfs")) write_tmpfs(folder, first);
    else if (is(program, "output")) write_all(STDOUT_FILENO, first);
    else if (is(program, "live")) wait_ms(first);
    else if (is(program, "hang")) {
        burn_on(first, 1);
        touch(second, 0);
        report();
        for (;;) pause();
    } else if (is(program, "greedy")) touch(first, 0);
    else {
        fprintf(stderr, "known: no program %s\n", program);
        return 2;
    }
    report();
    return 0;
}
