/* The time of day of one process tree, some seconds off: preloaded, with the seconds as text in the file CLOCK_STEPS.

   Monotonic clocks, waits and the times of files stay true, as they do when a real clock is set. The file is looked at
   again after a quarter of a second. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

static long step_seconds(void)
{
    static _Thread_local long step, read_at = -1;
    struct timespec now;
    syscall(SYS_clock_gettime, CLOCK_MONOTONIC, &now);
    long quarter = now.tv_sec * 4 + now.tv_nsec / 250000000;
    const char *path = getenv("CLOCK_STEPS");
    if (quarter != read_at && path != NULL) {
        char text[32];
        int file = open(path, O_RDONLY | O_CLOEXEC);
        ssize_t size = file < 0 ? -1 : read(file, text, sizeof text - 1);
        if (file >= 0)
            close(file);
        if (size > 0) {
            text[size] = 0;
            step = strtol(text, NULL, 10);
        }
        read_at = quarter;
    }
    return step;
}

int clock_gettime(clockid_t clock, struct timespec *time)
{
    int result = (int)syscall(SYS_clock_gettime, clock, time);
    if (result == 0 && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE))
        time->tv_sec += step_seconds();
    return result;
}

int gettimeofday(struct timeval *restrict time, void *restrict zone)
{
    struct timespec now;
    (void)zone;
    clock_gettime(CLOCK_REALTIME, &now);
    time->tv_sec = now.tv_sec;
    time->tv_usec = now.tv_nsec / 1000;
    return 0;
}

time_t time(time_t *into)
{
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    if (into != NULL)
        *into = now.tv_sec;
    return now.tv_sec;
}
