/*
 * An NBD server that does nothing: reads are answered with zeroes that were never looked for, written
 * bytes are read from the socket and forgotten. What fio measures on it is the kernel's sockets and fio
 * itself, the ceiling of any server behind the same socket. It takes what has arrived with one read(2)
 * and answers all of it with one writev(2), which is the least that sockets allow.
 *
 * Fixed newstyle, simple replies, no structured ones; one thread for each connection. The numbers are
 * those of the NBD specification, doc/proto.md.
 *
 *   null-nbd SIZE unix PATH
 *   null-nbd SIZE tcp PORT      on 127.0.0.1
 *
 * It writes "ready" once it listens.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <endian.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <unistd.h>

#define NBDMAGIC 0x4e42444d41474943ULL
#define IHAVEOPT 0x49484156454f5054ULL
#define OPTION_REPLY_MAGIC 0x0003e889045565a9ULL
#define REQUEST_MAGIC 0x25609513U
#define REPLY_MAGIC 0x67446698U

#define FLAG_FIXED_NEWSTYLE 1
#define FLAG_NO_ZEROES 2
/* Has flags, flush, trim. */
#define TRANSMISSION_FLAGS (1 | 4 | 32)

enum { OPT_EXPORT_NAME = 1, OPT_ABORT = 2, OPT_INFO = 6, OPT_GO = 7 };
enum { REP_ACK = 1, REP_INFO = 3 };
#define REP_ERR_UNSUP 0x80000001U
enum { INFO_EXPORT = 0 };
enum { CMD_READ = 0, CMD_WRITE = 1, CMD_DISC = 2 };

#define OPTION_SIZE_MAX 65536
#define LENGTH_MAX (32U << 20)
#define INPUT_SIZE (1U << 20)
#define BATCH_MAX 256

struct request {
	uint32_t magic;
	uint16_t flags;
	uint16_t type;
	uint64_t cookie;
	uint64_t offset;
	uint32_t length;
} __attribute__((packed));

struct reply {
	uint32_t magic;
	uint32_t error;
	uint64_t cookie;
} __attribute__((packed));

static uint64_t export_size;
static char zeroes[LENGTH_MAX];

static int read_all(int fd, void *to, size_t size)
{
	for (size_t done = 0; done < size;) {
		ssize_t n = read(fd, (char *)to + done, size - done);

		if (n <= 0 && !(n < 0 && errno == EINTR))
			return 0;
		done += n > 0 ? n : 0;
	}
	return 1;
}

static int write_all(int fd, struct iovec *parts, int count)
{
	while (count > 0) {
		ssize_t n = writev(fd, parts, count);

		if (n < 0 && errno != EINTR)
			return 0;
		if (n < 0)
			continue;
		/* Parts that are done, empty ones among them, and the start of one that is not. */
		for (; count > 0 && (size_t)n >= parts->iov_len; parts++, count--)
			n -= parts->iov_len;
		if (count > 0) {
			parts->iov_base = (char *)parts->iov_base + n;
			parts->iov_len -= n;
		}
	}
	return 1;
}

static int send_bytes(int fd, const void *from, size_t size)
{
	struct iovec part = {.iov_base = (void *)from, .iov_len = size};

	return write_all(fd, &part, 1);
}

static int answer_option(int fd, uint32_t option, uint32_t type, const void *data, uint32_t size)
{
	struct {
		uint64_t magic;
		uint32_t option, type, size;
	} __attribute__((packed)) head = {htobe64(OPTION_REPLY_MAGIC), htobe32(option), htobe32(type),
					  htobe32(size)};

	return send_bytes(fd, &head, sizeof(head)) && send_bytes(fd, data, size);
}

/* True when the transmission phase begins. */
static int negotiate(int fd)
{
	struct {
		uint64_t magic, option_magic;
		uint16_t flags;
	} __attribute__((packed)) greeting = {htobe64(NBDMAGIC), htobe64(IHAVEOPT),
					      htobe16(FLAG_FIXED_NEWSTYLE | FLAG_NO_ZEROES)};
	struct {
		uint64_t magic;
		uint32_t option, size;
	} __attribute__((packed)) head;
	struct {
		uint16_t type;
		uint64_t size;
		uint16_t flags;
		char zeroes[124];
	} __attribute__((packed)) info = {htobe16(INFO_EXPORT), htobe64(export_size),
					  htobe16(TRANSMISSION_FLAGS), ""};
	char data[OPTION_SIZE_MAX];
	uint32_t client_flags;

	if (!send_bytes(fd, &greeting, sizeof(greeting)) || !read_all(fd, &client_flags, 4))
		return 0;
	while (read_all(fd, &head, sizeof(head))) {
		uint32_t option = be32toh(head.option), size = be32toh(head.size);

		if (be64toh(head.magic) != IHAVEOPT || size > sizeof(data) || !read_all(fd, data, size))
			return 0;
		switch (option) {
		case OPT_EXPORT_NAME: {
			int without_zeroes = be32toh(client_flags) & FLAG_NO_ZEROES;

			return send_bytes(fd, &info.size, without_zeroes ? 10 : 134);
		}
		case OPT_INFO:
		case OPT_GO:
			if (!answer_option(fd, option, REP_INFO, &info, 12) ||
			    !answer_option(fd, option, REP_ACK, "", 0))
				return 0;
			if (option == OPT_GO)
				return 1;
			break;
		case OPT_ABORT:
			answer_option(fd, option, REP_ACK, "", 0);
			return 0;
		default:
			if (!answer_option(fd, option, REP_ERR_UNSUP, "", 0))
				return 0;
		}
	}
	return 0;
}

struct batch {
	struct reply replies[BATCH_MAX];
	struct iovec parts[2 * BATCH_MAX];
	int reply_count, part_count;
};

static int send_batch(int fd, struct batch *batch)
{
	int done = write_all(fd, batch->parts, batch->part_count);

	batch->reply_count = batch->part_count = 0;
	return done;
}

static void add_reply(struct batch *batch, const struct request *request)
{
	struct reply *reply = &batch->replies[batch->reply_count++];
	uint32_t length = be32toh(request->length);

	reply->magic = htobe32(REPLY_MAGIC);
	reply->error = 0;
	reply->cookie = request->cookie;
	batch->parts[batch->part_count++] =
		(struct iovec){.iov_base = reply, .iov_len = sizeof(*reply)};
	if (be16toh(request->type) == CMD_READ && length > 0)
		batch->parts[batch->part_count++] =
			(struct iovec){.iov_base = zeroes, .iov_len = length};
}

static void transmit(int fd, char *input)
{
	static __thread struct batch batch;
	size_t held = 0;
	/* Bytes of a write that are still to come and to be forgotten; its reply waits for them. */
	size_t skip = 0;
	struct request late;

	for (;;) {
		ssize_t n = read(fd, input + held, INPUT_SIZE - held);
		size_t at = 0;

		if (n <= 0)
			return;
		held += n;
		while (held - at > 0) {
			if (skip > 0) {
				size_t part = skip < held - at ? skip : held - at;

				at += part;
				skip -= part;
				if (skip > 0)
					break;
				add_reply(&batch, &late);
			} else {
				if (held - at < sizeof(late))
					break;
				memcpy(&late, input + at, sizeof(late));
				at += sizeof(late);
				if (be32toh(late.magic) != REQUEST_MAGIC || be32toh(late.length) > LENGTH_MAX ||
				    be16toh(late.type) == CMD_DISC)
					return;
				if (be16toh(late.type) == CMD_WRITE)
					skip = be32toh(late.length);
				if (skip == 0)
					add_reply(&batch, &late);
			}
			if (batch.reply_count == BATCH_MAX && !send_batch(fd, &batch))
				return;
		}
		memmove(input, input + at, held - at);
		held -= at;
		if (batch.reply_count > 0 && !send_batch(fd, &batch))
			return;
	}
}

static void *serve(void *argument)
{
	int fd = (int)(intptr_t)argument;
	char *input = malloc(INPUT_SIZE);

	if (input != NULL && negotiate(fd))
		transmit(fd, input);
	free(input);
	close(fd);
	return NULL;
}

static int listen_on(const char *kind, const char *where)
{
	struct sockaddr_un local = {.sun_family = AF_UNIX};
	struct sockaddr_in inet = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	int is_unix = strcmp(kind, "unix") == 0;
	int fd = socket(is_unix ? AF_UNIX : AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	int done;

	if (is_unix) {
		strncpy(local.sun_path, where, sizeof(local.sun_path) - 1);
		done = bind(fd, (struct sockaddr *)&local, sizeof(local));
	} else {
		inet.sin_port = htons(atoi(where));
		done = bind(fd, (struct sockaddr *)&inet, sizeof(inet));
	}
	if (fd < 0 || done < 0 || listen(fd, 16) < 0) {
		perror(where);
		exit(1);
	}
	return fd;
}

int main(int argc, char **argv)
{
	if (argc != 4) {
		fprintf(stderr, "usage: null-nbd SIZE unix|tcp WHERE\n");
		return 2;
	}
	prctl(PR_SET_PDEATHSIG, SIGTERM);
	signal(SIGPIPE, SIG_IGN);
	export_size = strtoull(argv[1], NULL, 10);
	int listener = listen_on(argv[2], argv[3]);

	puts("ready");
	fflush(stdout);
	for (;;) {
		int fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
		int one = 1;
		pthread_t thread;

		if (fd < 0)
			continue;
		/* Fails on a Unix socket, which has no such option. */
		setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
		if (pthread_create(&thread, NULL, serve, (void *)(intptr_t)fd) != 0)
			close(fd);
		else
			pthread_detach(thread);
	}
}
