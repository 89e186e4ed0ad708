/*
 * A long cable: every frame that comes in on one network device leaves on the other so much later, in both
 * directions. For kernels without netem. Frames keep what the kernel left undone (checksums, segments), so
 * that TCP sees a delay and nothing else. What does not fit in the queue is lost, and counted.
 *
 *   delay-line DEVICE DEVICE MICROSECONDS     prints "ready"; ends with a signal
 */
#define _GNU_SOURCE
#include <errno.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <linux/virtio_net.h>
#include <net/if.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <arpa/inet.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define FRAME_SIZE_MAX (sizeof(struct virtio_net_hdr) + 65536 + 64)
#define SOCKET_BUFFER_BYTES (64 << 20)
/* More than 1 Gb/s fills in 100 ms. */
#define QUEUE_BYTES_MAX (16 << 20)
/* Frames taken from one side before the other has its turn. */
#define TURN 64

struct frame {
	struct frame *next;
	long long due_ns;
	size_t size;
	char bytes[];
};

struct direction {
	int from, to;
	struct frame *first, **end;
	size_t bytes;
};

static unsigned long lost;

static void check(int good, const char *what)
{
	if (good)
		return;
	perror(what);
	exit(1);
}

static long long now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1000000000LL + t.tv_nsec;
}

static int open_device(const char *name)
{
	int fd = socket(AF_PACKET, SOCK_RAW | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	int on = 1, size = SOCKET_BUFFER_BYTES;
	struct sockaddr_ll address = {
		.sll_family = AF_PACKET,
		.sll_protocol = htons(ETH_P_ALL),
		.sll_ifindex = if_nametoindex(name),
	};

	check(fd >= 0, "socket");
	check(address.sll_ifindex != 0, name);
	check(setsockopt(fd, SOL_PACKET, PACKET_VNET_HDR, &on, sizeof(on)) == 0, "PACKET_VNET_HDR");
	check(setsockopt(fd, SOL_PACKET, PACKET_IGNORE_OUTGOING, &on, sizeof(on)) == 0,
	      "PACKET_IGNORE_OUTGOING");
	check(setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &size, sizeof(size)) == 0, "SO_RCVBUFFORCE");
	check(setsockopt(fd, SOL_SOCKET, SO_SNDBUFFORCE, &size, sizeof(size)) == 0, "SO_SNDBUFFORCE");
	check(bind(fd, (struct sockaddr *)&address, sizeof(address)) == 0, "bind");
	return fd;
}

/* Takes what has come in. */
static void take(struct direction *way, long long delay_ns)
{
	static char buffer[FRAME_SIZE_MAX];

	for (int count = 0; count < TURN; count++) {
		ssize_t size = recv(way->from, buffer, sizeof(buffer), 0);
		struct frame *frame;

		if (size < 0) {
			check(errno == EAGAIN || errno == EINTR, "recv");
			return;
		}
		if (way->bytes + size > QUEUE_BYTES_MAX) {
			lost++;
			continue;
		}
		frame = malloc(sizeof(*frame) + size);
		check(frame != NULL, "malloc");
		memcpy(frame->bytes, buffer, size);
		frame->size = size;
		frame->due_ns = now_ns() + delay_ns;
		frame->next = NULL;
		*way->end = frame;
		way->end = &frame->next;
		way->bytes += size;
	}
}

/* Puts out what is due. */
static void give(struct direction *way)
{
	while (way->first != NULL && way->first->due_ns <= now_ns()) {
		struct frame *frame = way->first;

		if (send(way->to, frame->bytes, frame->size, 0) < 0) {
			if (errno == EAGAIN || errno == EINTR)
				return;
			lost++;
		}
		way->first = frame->next;
		if (way->first == NULL)
			way->end = &way->first;
		way->bytes -= frame->size;
		free(frame);
	}
}

int main(int argc, char **argv)
{
	struct direction ways[2] = { 0 };
	struct pollfd waits[2];
	long long delay_ns;

	if (argc != 4) {
		fprintf(stderr, "usage: delay-line DEVICE DEVICE MICROSECONDS\n");
		return 2;
	}
	delay_ns = atoll(argv[3]) * 1000;
	for (int side = 0; side < 2; side++)
		waits[side] = (struct pollfd){ .fd = open_device(argv[1 + side]), .events = POLLIN };
	for (int side = 0; side < 2; side++) {
		ways[side].from = waits[side].fd;
		ways[side].to = waits[1 - side].fd;
		ways[side].end = &ways[side].first;
	}
	/* Sleep as exactly as the machine can: the delay may be 100 us. */
	check(prctl(PR_SET_TIMERSLACK, 1) == 0, "PR_SET_TIMERSLACK");
	puts("ready");
	fflush(stdout);
	for (;;) {
		long long due_ns = -1;
		struct timespec wait;

		for (int side = 0; side < 2; side++) {
			struct frame *first = ways[side].first;

			if (first != NULL && (due_ns < 0 || first->due_ns < due_ns))
				due_ns = first->due_ns;
		}
		if (due_ns >= 0) {
			long long left_ns = due_ns - now_ns();

			if (left_ns < 0)
				left_ns = 0;
			wait.tv_sec = left_ns / 1000000000;
			wait.tv_nsec = left_ns % 1000000000;
		}
		check(ppoll(waits, 2, due_ns < 0 ? NULL : &wait, NULL) >= 0 || errno == EINTR, "ppoll");
		for (int side = 0; side < 2; side++) {
			take(&ways[side], delay_ns);
			give(&ways[side]);
		}
		if (lost != 0) {
			fprintf(stderr, "lost %lu frames\n", lost);
			lost = 0;
		}
	}
}
