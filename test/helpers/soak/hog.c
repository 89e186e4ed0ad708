/*
 * A program that will not let a page rest: hog MIB SECONDS SEED CANARY_HEX.
 *
 * Its memory is many small pieces. It walks them in a random order, compares every word of a piece with
 * what it must be, and now and then writes it anew, so that pages go out and come back all the time and
 * a stale page is seen as well as a damaged one. Every page begins with the canary, for those who look
 * for it elsewhere. Prints JSON lines; the last is the result. In C, because a soak is about the
 * machine's memory and this needs none but its pieces.
 */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>

enum { PIECE_WORDS = 16384, PAGE_WORDS = 1024, CANARY_WORDS = 8, REWRITE_EVERY = 3 };

static uint32_t canary[CANARY_WORDS];

/* xorshift32 */
static uint32_t next(uint32_t x) {
  x ^= x << 13;
  x ^= x >> 17;
  return x ^ (x << 5);
}

static uint32_t first_word(uint32_t piece, uint32_t version) {
  uint32_t word = (piece + 1) * 2654435761u + version * 40503u;
  return word == 0 ? 1 : word;
}

static void fill(uint32_t *words, uint32_t piece, uint32_t version) {
  uint32_t word = first_word(piece, version);
  for (int index = 0; index < PIECE_WORDS; index++) words[index] = word = next(word);
  for (int page = 0; page < PIECE_WORDS; page += PAGE_WORDS)
    memcpy(words + page, canary, sizeof canary);
}

static uint64_t count_wrong(const uint32_t *words, uint32_t piece, uint32_t version) {
  uint32_t word = first_word(piece, version);
  uint64_t wrong = 0;
  for (int index = 0; index < PIECE_WORDS; index++) {
    word = next(word);
    int in_page = index % PAGE_WORDS;
    wrong += words[index] != (in_page < CANARY_WORDS ? canary[in_page] : word);
  }
  return wrong;
}

static double now_ms(void) {
  struct timespec time;
  clock_gettime(CLOCK_MONOTONIC, &time);
  return time.tv_sec * 1e3 + time.tv_nsec / 1e6;
}

static void report(const char *type, uint64_t checked, uint64_t wrong, double longest, double ms) {
  printf("{\"type\":\"%s\",\"checked\":%llu,\"wrong\":%llu,\"longestMs\":%.0f,\"ms\":%.0f}\n", type,
         (unsigned long long)checked, (unsigned long long)wrong, longest, ms);
  fflush(stdout);
}

int main(int argc, char **argv) {
  if (argc != 5 || strlen(argv[4]) != 8 * sizeof canary / 4) {
    fprintf(stderr, "usage: hog MIB SECONDS SEED CANARY_HEX (64 digits)\n");
    return 2;
  }
  for (unsigned byte = 0; byte < sizeof canary; byte++)
    sscanf(argv[4] + 2 * byte, "%2hhx", (unsigned char *)canary + byte);
  size_t size = (size_t)atol(argv[1]) << 20;
  double seconds = atof(argv[2]);
  uint32_t random = (uint32_t)atol(argv[3]);
  uint32_t count = size / (PIECE_WORDS * 4);
  uint32_t *heap = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  uint32_t *versions = calloc(count, sizeof *versions);
  if (heap == MAP_FAILED || versions == NULL) return perror("hog"), 2;

  double start = now_ms();
  for (uint32_t piece = 0; piece < count; piece++) fill(heap + (size_t)piece * PIECE_WORDS, piece, 0);
  report("filled", 0, 0, 0, now_ms() - start);

  uint64_t checked = 0, wrong = 0;
  double longest = 0, reported = now_ms();
  for (double at = now_ms(); at - start < seconds * 1e3; at = now_ms()) {
    random = next(random);
    uint32_t piece = random % count;
    uint32_t *words = heap + (size_t)piece * PIECE_WORDS;
    wrong += count_wrong(words, piece, versions[piece]);
    checked += PIECE_WORDS;
    if ((random >> 16) % REWRITE_EVERY == 0) fill(words, piece, ++versions[piece]);
    double taken = now_ms() - at;
    if (taken > longest) longest = taken;
    if (at - reported > 10e3) {
      reported = at;
      report("progress", checked, wrong, longest, at - start);
    }
  }
  for (uint32_t piece = 0; piece < count; piece++) {
    wrong += count_wrong(heap + (size_t)piece * PIECE_WORDS, piece, versions[piece]);
    checked += PIECE_WORDS;
  }
  report("result", checked, wrong, longest, now_ms() - start);
  return wrong == 0 ? 0 : 1;
}
