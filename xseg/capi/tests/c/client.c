/*
 * A client of libxseg as QEMU's driver is one: it joins, binds a dynamic port, and has one thread
 * that receives while another submits. Run by tests/client.rs against a node of real peers:
 *
 *   client SEGMENT MAPPERD_PORT VLMCD_PORT
 */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <xseg/protocol.h>
#include <xseg/xseg.h>

#define PIECE 524288
#define PIECES 16
#define SIZE ((uint64_t)PIECE * PIECES)

static struct xseg *x;
static struct xseg_port *port;
static xport mport, vport;

#define CHECK(what)                                                                                \
	do {                                                                                       \
		if (!(what)) {                                                                     \
			fprintf(stderr, "%s:%d: %s (%s)\n", __FILE__, __LINE__, #what,             \
			        xseg_last_error());                                                \
			exit(1);                                                                   \
		}                                                                                  \
	} while (0)

/* One piece under way, and what is checked when it comes back. */
struct piece {
	uint32_t op;
	uint64_t offset, size;
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t landed = PTHREAD_COND_INITIALIZER;
static unsigned under_way;
static uint64_t serviced;
static int stopping;

static unsigned char byte_at(uint64_t offset)
{
	return (unsigned char)(offset / PIECE * 7 + offset % 251);
}

static struct xseg_request *new_request(xport dst, const char *target, uint64_t datalen)
{
	struct xseg_request *req = xseg_get_request(x, port->portno, dst, X_ALLOC);
	CHECK(req);
	CHECK(xseg_prep_request(x, req, strlen(target), datalen) >= 0);
	memcpy(xseg_get_target(x, req), target, strlen(target));
	CHECK(req->state == 0 && req->flags == 0 && req->serviced == 0 && req->v0_size == ~0ULL);
	CHECK(req->targetlen == strlen(target) && req->datalen == datalen);
	return req;
}

static void submit(struct xseg_request *req)
{
	xport p = xseg_submit(x, req, port->portno, X_ALLOC);
	CHECK(p != NoPort);
	CHECK(xseg_signal(x, p) == 0);
}

static struct xseg_request *wait_reply(void)
{
	void *sd = xseg_get_signal_desc(x, port);
	CHECK(sd);
	for (;;) {
		struct xseg_request *req;
		CHECK(xseg_prepare_wait(x, port->portno) == 0);
		req = xseg_receive(x, port->portno, X_NONBLOCK);
		if (!req)
			xseg_wait_signal(x, sd, 100000);
		CHECK(xseg_cancel_wait(x, port->portno) == 0);
		if (req)
			return req;
	}
}

static void submit_and_wait(struct xseg_request *req)
{
	submit(req);
	CHECK(wait_reply() == req);
}

static void create(const char *volume, uint64_t size)
{
	struct xseg_request *req = new_request(mport, volume, sizeof(struct xseg_request_clone));
	struct xseg_request_clone *clone = (void *)xseg_get_data(x, req);
	memset(clone, 0, sizeof(*clone));
	clone->size = size;
	req->op = X_CLONE;
	req->offset = 0;
	req->size = 0;
	submit_and_wait(req);
	CHECK((req->state & XS_SERVED) && !(req->state & XS_FAILED) && req->error == 0);
	CHECK(xseg_put_request(x, req, port->portno) == 0);
}

static void check_sizes(void)
{
	struct xseg_request *req = new_request(mport, "c-volume", sizeof(struct xseg_reply_info));
	req->op = X_INFO;
	submit_and_wait(req);
	CHECK(req->state & XS_SERVED);
	CHECK(((struct xseg_reply_info *)xseg_get_data(x, req))->size == SIZE);
	CHECK(xseg_put_request(x, req, port->portno) == 0);

	/* A failed INFO: QEMU's driver does not look at the state. */
	req = new_request(mport, "no-such-volume", sizeof(struct xseg_reply_info));
	memset(xseg_get_data(x, req), 0xff, sizeof(struct xseg_reply_info));
	req->op = X_INFO;
	submit_and_wait(req);
	CHECK((req->state & XS_FAILED) && !(req->state & XS_SERVED) && req->error == 2);
	CHECK(((struct xseg_reply_info *)xseg_get_data(x, req))->size == 0);
	CHECK(xseg_put_request(x, req, port->portno) == 0);
}

/* What QEMU's background thread does. */
static void *receiver(void *unused)
{
	void *sd = xseg_get_signal_desc(x, port);
	(void)unused;
	for (;;) {
		struct xseg_request *req;
		pthread_mutex_lock(&lock);
		int stop = stopping;
		pthread_mutex_unlock(&lock);
		if (stop)
			return NULL;
		xseg_prepare_wait(x, port->portno);
		req = xseg_receive(x, port->portno, X_NONBLOCK);
		if (!req) {
			xseg_wait_signal(x, sd, 100000);
			xseg_cancel_wait(x, port->portno);
			continue;
		}
		xseg_cancel_wait(x, port->portno);
		struct piece *piece = NULL;
		CHECK(xseg_get_req_data(x, req, (void **)&piece) == 0);
		CHECK(xseg_get_req_data(x, req, (void **)&piece) == -1);
		if (piece->op == X_READ) {
			unsigned char *data = (void *)xseg_get_data(x, req);
			for (uint64_t i = 0; i < piece->size; i++)
				CHECK(data[i] == byte_at(piece->offset + i));
		}
		pthread_mutex_lock(&lock);
		serviced += req->serviced;
		under_way--;
		pthread_cond_signal(&landed);
		pthread_mutex_unlock(&lock);
		CHECK(xseg_put_request(x, req, port->portno) == 0);
		free(piece);
	}
}

static void submit_piece(uint32_t op, uint64_t offset)
{
	struct piece *piece = malloc(sizeof(*piece));
	struct xseg_request *req = new_request(vport, "c-volume", PIECE);
	*piece = (struct piece){ op, offset, PIECE };
	req->op = op;
	req->offset = offset;
	req->size = PIECE;
	if (op == X_WRITE) {
		unsigned char *data = (void *)xseg_get_data(x, req);
		for (uint64_t i = 0; i < PIECE; i++)
			data[i] = byte_at(offset + i);
	}
	CHECK(xseg_set_req_data(x, req, piece) == 0);
	pthread_mutex_lock(&lock);
	under_way++;
	pthread_mutex_unlock(&lock);
	submit(req);
}

static void move_pieces(uint32_t op)
{
	serviced = 0;
	for (uint64_t i = 0; i < PIECES; i++)
		submit_piece(op, i * PIECE);
	pthread_mutex_lock(&lock);
	while (under_way)
		pthread_cond_wait(&landed, &lock);
	CHECK(serviced == SIZE);
	pthread_mutex_unlock(&lock);
}

static void simple(uint32_t op, uint64_t want)
{
	struct xseg_request *req = new_request(vport, "c-volume", 0);
	req->op = op;
	req->size = 0;
	req->offset = 0;
	submit_and_wait(req);
	CHECK((req->state & XS_SERVED) && req->serviced == want);
	CHECK(xseg_put_request(x, req, port->portno) == 0);
}

/* A reply that is larger than there was room for. */
static void check_map(void)
{
	struct xseg_request *req = new_request(mport, "c-volume", 0);
	struct xseg_reply_map *map;
	req->op = X_MAPR;
	req->offset = 0;
	req->size = SIZE;
	submit_and_wait(req);
	CHECK(req->state & XS_SERVED);
	map = (void *)xseg_get_data(x, req);
	CHECK(map && map->cnt == SIZE / (4 << 20) && req->datalen >= 8 + 280 * map->cnt);
	CHECK(map->segs[0].size == 4 << 20 && map->segs[0].targetlen > strlen("c-volume"));
	CHECK(memcmp(map->segs[0].target, "c-volume", 8) == 0);
	CHECK(xseg_put_request(x, req, port->portno) == 0);
}

static void check_transfers(void)
{
	static unsigned char bytes[3 * 1024 * 1024 + 5];
	struct xseg_transfer_spec spec = {
		.op = X_READ, .v0_size = ~0ULL, .offset = 4096, .dst = vport, .targetlen = 8,
		.target = "c-volume", .data = bytes, .datalen = sizeof(bytes),
	};
	struct xseg_transfer *t = xseg_transfer_start(x, port->portno, &spec);
	CHECK(t);
	CHECK(xseg_transfer_wait(x, t, 60000000) == 1);
	CHECK(xseg_transfer_end(x, t) == 0);
	for (uint64_t i = 0; i < sizeof(bytes); i++)
		CHECK(bytes[i] == byte_at(4096 + i));
	CHECK(xseg_transfer_end(x, t) == -1 && xseg_transfer_step(x, t) == -1);

	memset(bytes, 0, sizeof(bytes));
	CHECK(xseg_transfer_run(x, port->portno, &spec, 60000000, &t) == 0 && !t);
	for (uint64_t i = 0; i < sizeof(bytes); i++)
		CHECK(bytes[i] == byte_at(4096 + i));
	CHECK(xseg_transfer_run(x, port->portno, &spec, 60000000, NULL) == -1);

	spec.target = "nowhere!";
	CHECK(xseg_transfer_run(x, port->portno, &spec, 60000000, &t) == 2 && !t);
	t = xseg_transfer_start(x, port->portno, &spec);
	CHECK(xseg_transfer_wait(x, t, 60000000) == 1);
	CHECK(xseg_transfer_end(x, t) == 2);
	spec.op = X_INFO;
	CHECK(!xseg_transfer_start(x, port->portno, &spec));
	CHECK(xseg_transfer_run(x, port->portno, &spec, 60000000, &t) == -1 && !t);
}

/* Pointers that are none, and lengths that lie. */
static void check_refusals(void)
{
	struct xseg_request foreign = { 0 };
	struct xseg_request *req;
	struct xseg_port nobody = { port->portno, 0 };
	CHECK(!xseg_join("posix", NULL, "posixfd", NULL));
	CHECK(!xseg_join("shm", "archipelago", "posixfd", NULL));
	CHECK(!xseg_join("posix", "no-such-segment", "posixfd", NULL));
	CHECK(strstr(xseg_last_error(), "not running"));
	CHECK(!xseg_bind_dynport(NULL) && !xseg_bind_dynport((struct xseg *)&nobody));
	CHECK(xseg_put_request(x, &foreign, port->portno) == -1);
	CHECK(xseg_put_request(x, NULL, port->portno) == -1);
	CHECK(!xseg_get_data(x, &foreign) && !xseg_get_target(x, NULL));
	CHECK(xseg_submit(x, &foreign, port->portno, X_ALLOC) == NoPort);
	CHECK(xseg_prep_request(x, &foreign, 1, 1) == -1);
	CHECK(xseg_leave_dynport(x, &nobody) == -1);
	CHECK(!xseg_get_signal_desc(x, &nobody));
	CHECK(xseg_wait_signal(x, &nobody, 0) == -1);
	CHECK(!xseg_get_request(x, 12345, vport, X_ALLOC));
	CHECK(!xseg_receive(x, 12345, X_NONBLOCK));

	req = new_request(vport, "c-volume", 4096);
	CHECK(xseg_get_req_data(x, req, NULL) == -1);
	CHECK(xseg_prep_request(x, req, 257, 0) == -1);
	CHECK(xseg_prep_request(x, req, 8, 1ULL << 50) == -1);
	CHECK(xseg_prep_request(x, req, 8, 4096) == 0);
	req->datalen = 1ULL << 40;
	CHECK(xseg_submit(x, req, port->portno, X_ALLOC) == NoPort);
	req->datalen = 4096;
	req->targetlen = 257;
	CHECK(xseg_submit(x, req, port->portno, X_ALLOC) == NoPort);
	req->targetlen = 8;
	req->effective_dst_portno = 77;
	CHECK(xseg_submit(x, req, port->portno, X_ALLOC) == NoPort);
	CHECK(strstr(xseg_last_error(), "77"));
	CHECK(xseg_put_request(x, req, port->portno) == 0);
	CHECK(xseg_put_request(x, req, port->portno) == -1);
}

/* A static port: taken, refused while it is somebody else's. */
static void check_static_ports(const char *segment)
{
	struct xseg *again = xseg_join("posix", segment, "posixfd", NULL);
	struct xseg_port *fixed;
	CHECK(again);
	fixed = xseg_bind_port(again, 9, NULL);
	CHECK(fixed && fixed->portno == 9);
	CHECK(!xseg_bind_port(again, mport, NULL));
	CHECK(strstr(xseg_last_error(), "in use by mapperd"));
	CHECK(!xseg_bind_port(again, 4000, NULL));
	CHECK(xseg_leave_port(again, fixed) == 0);
	xseg_leave(again);
	CHECK(!xseg_bind_dynport(again));
}

int main(int argc, char **argv)
{
	pthread_t thread;
	if (argc != 4)
		return 2;
	mport = atoi(argv[2]);
	vport = atoi(argv[3]);
	CHECK(xseg_initialize() == 0);
	x = xseg_join("posix", argv[1], "posixfd", NULL);
	CHECK(x);
	port = xseg_bind_dynport(x);
	CHECK(port);
	CHECK(xseg_init_local_signal(x, port->portno) == 0);
	CHECK(xseg_check_node(x) == 0);

	create("c-volume", SIZE);
	check_sizes();

	CHECK(pthread_create(&thread, NULL, receiver, NULL) == 0);
	move_pieces(X_WRITE);
	move_pieces(X_READ);
	pthread_mutex_lock(&lock);
	stopping = 1;
	pthread_mutex_unlock(&lock);
	pthread_join(thread, NULL);

	simple(X_FLUSH, 0);
	check_map();
	check_transfers();
	check_refusals();
	check_static_ports(argv[1]);
	simple(X_CLOSE, 0);

	xseg_quit_local_signal(x, port->portno);
	CHECK(xseg_leave_dynport(x, port) == 0);
	xseg_leave(x);
	xseg_finalize();
	puts("client done");
	return 0;
}
