/*
 * Many small files, as compilers and package managers make them: each is created, gets 1 KiB in one
 * write, and is closed; then all are listed with their attributes, read, and removed. With "churn"
 * each is removed before the next one comes, so that nothing should grow.
 *
 *   small-files DIR COUNT         prints the seconds of: create, list, read, remove
 *   small-files DIR COUNT churn   prints the seconds of all
 *   small-files DIR COUNT empty   makes empty files, and leaves them there
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define SIZE 1024

static char bytes[SIZE];

static void check(int good, const char *what)
{
	if (good)
		return;
	perror(what);
	exit(1);
}

static double seconds(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec + t.tv_nsec / 1e9;
}

static const char *name_of(long i)
{
	static char name[32];

	snprintf(name, sizeof(name), "file-%06ld", i);
	return name;
}

static void make(int dir, long i, ssize_t size)
{
	int fd = openat(dir, name_of(i), O_CREAT | O_EXCL | O_WRONLY, 0644);

	check(fd >= 0, "create");
	check(size == 0 || write(fd, bytes, size) == size, "write");
	check(close(fd) == 0, "close");
}

static void take(int dir, long i)
{
	check(unlinkat(dir, name_of(i), 0) == 0, "unlink");
}

static long list(int dir)
{
	DIR *d = fdopendir(openat(dir, ".", O_RDONLY | O_DIRECTORY));
	struct dirent *e;
	struct stat s;
	long count = 0;

	check(d != NULL, "opendir");
	while ((e = readdir(d)) != NULL) {
		check(fstatat(dir, e->d_name, &s, 0) == 0, "stat");
		if (S_ISREG(s.st_mode) && s.st_size == SIZE)
			count++;
	}
	closedir(d);
	return count;
}

static void look(int dir, long i)
{
	static char found[SIZE + 1];
	int fd = openat(dir, name_of(i), O_RDONLY);

	check(fd >= 0, "open");
	check(read(fd, found, sizeof(found)) == SIZE && memcmp(found, bytes, SIZE) == 0, "read");
	check(close(fd) == 0, "close");
}

int main(int argc, char **argv)
{
	long count = argc > 2 ? atol(argv[2]) : 0;
	int dir = argc > 2 ? open(argv[1], O_RDONLY | O_DIRECTORY) : -1;
	double at[5];

	check(dir >= 0 && count > 0, "usage: small-files DIR COUNT [churn|empty]");
	memset(bytes, 'x', SIZE);
	at[0] = seconds();
	if (argc > 3) {
		int empty = strcmp(argv[3], "empty") == 0;

		for (long i = 0; i < count; i++) {
			make(dir, i, empty ? 0 : SIZE);
			if (!empty)
				take(dir, i);
		}
		printf("%.6f\n", seconds() - at[0]);
		return 0;
	}
	for (long i = 0; i < count; i++)
		make(dir, i, SIZE);
	at[1] = seconds();
	check(list(dir) == count, "list");
	at[2] = seconds();
	for (long i = 0; i < count; i++)
		look(dir, i);
	at[3] = seconds();
	for (long i = 0; i < count; i++)
		take(dir, i);
	at[4] = seconds();
	printf("%.6f %.6f %.6f %.6f\n", at[1] - at[0], at[2] - at[1], at[3] - at[2], at[4] - at[3]);
	return 0;
}
