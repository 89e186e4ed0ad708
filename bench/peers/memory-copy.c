/*
 * What copying memory costs, the floor under any copy that a server makes. Prints one JSON object for
 * each way of copying, with the nanoseconds of the fastest of several passes and of the middle one:
 *
 *   page-hot   4 KiB pages of a run of 64 KiB, which stays in the caches
 *   page-cold  4 KiB pages in shuffled order over SIZE bytes: no cache helps
 *   large      SIZE bytes in one call
 *
 *   memory-copy SIZE PASSES
 */
#define _GNU_SOURCE
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>

#define PAGE 4096UL
#define HOT_PAGES 16UL

/* Of the processor, so that a neighbour on the machine is not counted. */
static uint64_t now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
	return (uint64_t)t.tv_sec * 1000000000UL + t.tv_nsec;
}

static unsigned char *memory_of(size_t size)
{
	unsigned char *at = mmap(NULL, size, PROT_READ | PROT_WRITE,
				 MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);

	if (at == MAP_FAILED) {
		perror("mmap");
		exit(1);
	}
	/* Bytes of our own: pages of the kernel's one zero page would all lie in the cache. */
	memset(at, 0x5a, size);
	return at;
}

static int by_value(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

static void report(const char *way, size_t bytes, double *ns, int passes)
{
	qsort(ns, passes, sizeof(*ns), by_value);
	printf("{\"way\":\"%s\",\"bytes\":%zu,\"bestNs\":%.2f,\"medianNs\":%.2f}\n", way, bytes,
	       ns[0], ns[passes / 2]);
}

/* The compiler may not see that nobody reads what was copied. */
static void keep(unsigned char *at)
{
	__asm__ volatile("" : : "r"(at) : "memory");
}

static void copy_pages(const char *way, unsigned char *to, unsigned char *from,
		       const uint32_t *order, size_t pages, size_t mask, double *ns, int passes)
{
	for (int pass = 0; pass < passes; pass++) {
		uint64_t start = now_ns();

		for (size_t i = 0; i < pages; i++) {
			size_t page = order[i] & mask;

			memcpy(to + page * PAGE, from + page * PAGE, PAGE);
			keep(to);
		}
		ns[pass] = (double)(now_ns() - start) / pages;
	}
	report(way, PAGE, ns, passes);
}

int main(int argc, char **argv)
{
	size_t size = argc == 3 ? strtoul(argv[1], NULL, 10) / PAGE * PAGE : 0;
	int passes = argc == 3 ? atoi(argv[2]) : 0;
	size_t pages = size / PAGE;

	if (pages < HOT_PAGES || passes < 1) {
		fprintf(stderr, "usage: memory-copy SIZE PASSES\n");
		return 2;
	}
	unsigned char *from = memory_of(size), *to = memory_of(size);
	uint32_t *order = malloc(pages * sizeof(*order));
	double *ns = malloc(passes * sizeof(*ns));
	uint32_t state = 1;

	if (order == NULL || ns == NULL)
		return 1;
	for (size_t i = 0; i < pages; i++)
		order[i] = i;
	for (size_t i = pages - 1; i > 0; i--) {
		state = state * 1664525 + 1013904223;
		size_t other = ((uint64_t)state * (i + 1)) >> 32;
		uint32_t kept = order[i];

		order[i] = order[other];
		order[other] = kept;
	}
	copy_pages("page-hot", to, from, order, pages, HOT_PAGES - 1, ns, passes);
	copy_pages("page-cold", to, from, order, pages, SIZE_MAX, ns, passes);
	for (int pass = 0; pass < passes; pass++) {
		uint64_t start = now_ns();

		memcpy(to, from, size);
		keep(to);
		ns[pass] = now_ns() - start;
	}
	report("large", size, ns, passes);
	return 0;
}
