/*
 * libxseg: requests to the peers of an Archipelago node, through its shared segment.
 *
 * Source compatible with the libxseg of Archipelago 0.4 for programs that are clients (QEMU's and
 * blktap's drivers are): names and types are the same, offsets and sizes are not. What is ours
 * says so. Link with -lxseg.
 *
 * A program joins, binds a port, and then for each request: xseg_get_request, xseg_prep_request,
 * target and data filled in, fields set, xseg_submit; later xseg_receive and xseg_put_request.
 *
 *   xseg_prepare_wait(x, portno);                    whoever answers now rings
 *   if (!(req = xseg_receive(x, portno, X_NONBLOCK)))
 *           xseg_wait_signal(x, sd, 100000);         microseconds
 *   xseg_cancel_wait(x, portno);
 *
 * Threads: every function may be called by any thread. One thread at a time waits at a port. A
 * request's fields, target and data belong to the program from xseg_get_request to xseg_submit, and
 * from xseg_receive to xseg_put_request; nobody else touches them then, nor the program in between.
 *
 * Failure: NULL, -1 or NoPort; xseg_last_error() says why. A pointer that this library did not
 * return, or that was given back, makes a call fail.
 *
 * Forks: a child must join by itself; handles that it inherited fail. No thread may be inside the
 * library while another forks.
 */
#ifndef XSEG_XSEG_H
#define XSEG_XSEG_H

#include <stddef.h>
#include <stdint.h>
#include <xseg/protocol.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef uint32_t xport;
#define NoPort ((xport)-1)

/* Flags of calls; accepted and without effect. */
#define X_ALLOC    (1 << 0)
#define X_LOCAL    (1 << 1)
#define X_NONBLOCK (1 << 2)

struct xseg;          /* what xseg_join returns */
struct xseg_transfer; /* what xseg_transfer_start returns */

struct xseg_port {
	xport portno;   /* its number */
	uint32_t owner; /* the process that bound it */
};

/* For programs that wait with a loop of their own: after xseg_prepare_wait the descriptor becomes
 * readable when something is answered. It is non-blocking; read it until EAGAIN. */
struct posixfd_signal_desc {
	char signal_file[16]; /* not used */
	int fd;
	int flag; /* between xseg_prepare_wait and xseg_cancel_wait */
};

struct xseg_request {
	uint64_t serial;   /* not used */
	uint64_t offset;   /* bytes from the start of the target */
	uint64_t size;     /* bytes, or operation specific */
	uint64_t serviced; /* bytes done; 0 when it failed */
	uint64_t v0_size;  /* bytes of a volume with a map of the oldest format; ~0: unknown */
	uint64_t data;     /* use xseg_get_data */
	uint64_t datalen;  /* bytes */
	uint64_t target;   /* use xseg_get_target */
	uint32_t targetlen; /* bytes */
	uint32_t op;        /* X_READ... */
	uint32_t state;     /* XS_SERVED, XS_FAILED */
	uint32_t flags;     /* XF_FUA... */
	xport src_portno;
	xport transit_portno;
	xport dst_portno;
	xport effective_dst_portno; /* where xseg_submit sends it */
	uint64_t buffer;
	uint64_t bufferlen; /* bytes of room for data */
	uint64_t task;      /* from here on the program's own */
	uint64_t priv;
	uint64_t timestamp;
	uint64_t elapsed;
	uint32_t error; /* ours: why it failed, a Linux error number */
	uint32_t padding;
};

/* Prepares the library. 0. */
int xseg_initialize(void);
void xseg_finalize(void);

/* Ours. Why the last call of this thread failed, as a sentence; stays until its next failure. */
const char *xseg_last_error(void);

/* Joins a running segment: type "posix", its name (looked for in $ARCHIPELAGO_RUN_DIR or its
 * default; an absolute path names the holder's socket itself), peertype "posixfd". The function is
 * never called. */
struct xseg *xseg_join(const char *type, const char *name, const char *peertype,
                       void (*wakeup)(uint32_t portno));
/* Leaves it; ports that are still bound are given back. */
void xseg_leave(struct xseg *xseg);
/* Ours. 0: the node is there; 1: its holder is away and may come back (looked for here);
 * -1: nothing will be answered any more. */
int xseg_check_node(struct xseg *xseg);

/* Binds a dynamic port that nobody has. */
struct xseg_port *xseg_bind_dynport(struct xseg *xseg);
/* Binds a static port; the descriptor is ignored. One whose process is dead is taken over, and no
 * reply to its former owner arrives here. One that another living process has is refused. */
struct xseg_port *xseg_bind_port(struct xseg *xseg, xport portno, void *signal_desc);
/* Gives a port back, and every request got for it. */
int xseg_leave_dynport(struct xseg *xseg, struct xseg_port *port);
int xseg_leave_port(struct xseg *xseg, struct xseg_port *port);

int xseg_init_local_signal(struct xseg *xseg, xport portno);
void xseg_quit_local_signal(struct xseg *xseg, xport portno);
/* The port's struct posixfd_signal_desc. */
void *xseg_get_signal_desc(struct xseg *xseg, struct xseg_port *port);
int xseg_prepare_wait(struct xseg *xseg, xport portno);
int xseg_cancel_wait(struct xseg *xseg, xport portno);
/* Sleeps until something came in. -1: nothing did in this time. */
int xseg_wait_signal(struct xseg *xseg, void *signal_desc, uint32_t usec_timeout);
/* Submitting has rung already. -1: nobody serves the port. */
int xseg_signal(struct xseg *xseg, xport portno);

/* A request from src to dst; state, flags and serviced are 0. */
struct xseg_request *xseg_get_request(struct xseg *xseg, xport src, xport dst, uint32_t flags);
int xseg_put_request(struct xseg *xseg, struct xseg_request *req, xport portno);
/* Makes room for a target (zeroed) and data. */
int xseg_prep_request(struct xseg *xseg, struct xseg_request *req, uint32_t targetlen,
                      uint64_t datalen);
/* The same; target and data stay when there is room enough, else they are lost. */
int xseg_resize_request(struct xseg *xseg, struct xseg_request *req, uint32_t targetlen,
                        uint64_t datalen);
char *xseg_get_target(struct xseg *xseg, struct xseg_request *req);
/* Where the data is, in the segment; NULL when there is none. A peer that answers with more than
 * there was room for moves it. */
char *xseg_get_data(struct xseg *xseg, struct xseg_request *req);
/* A pointer of the program's, until it is taken back. */
int xseg_set_req_data(struct xseg *xseg, struct xseg_request *req, void *data);
int xseg_get_req_data(struct xseg *xseg, struct xseg_request *req, void **data);
/* Sends it to effective_dst_portno, and returns that. */
xport xseg_submit(struct xseg *xseg, struct xseg_request *req, xport portno, uint32_t flags);
/* The next answered request, or NULL; never waits. */
struct xseg_request *xseg_receive(struct xseg *xseg, xport portno, uint32_t flags);

/* Ours: a read or write of any length, in pieces, several under way. */
struct xseg_transfer_spec {
	uint32_t op;    /* X_READ, X_WRITE */
	uint32_t flags; /* XF_FUA... */
	uint64_t v0_size;
	uint64_t offset;
	xport dst;
	uint32_t targetlen;
	const char *target;
	void *data; /* stays the transfer's until xseg_transfer_end */
	uint64_t datalen;
};

struct xseg_transfer *xseg_transfer_start(struct xseg *xseg, xport portno,
                                          const struct xseg_transfer_spec *spec);
/* Goes on without waiting. 1: over; 0: not yet; -1: no such transfer. */
int xseg_transfer_step(struct xseg *xseg, struct xseg_transfer *transfer);
/* Goes on and waits. */
int xseg_transfer_wait(struct xseg *xseg, struct xseg_transfer *transfer, uint64_t usec_timeout);
/* All three at once: what xseg_transfer_end says. -1: it can't be started, or it is not over in this
 * time, and *under_way is to be waited for and ended. */
int xseg_transfer_run(struct xseg *xseg, xport portno, const struct xseg_transfer_spec *spec,
                      uint64_t usec_timeout, struct xseg_transfer **under_way);
/* Nothing will be answered any more. */
void xseg_transfer_abandon(struct xseg *xseg, struct xseg_transfer *transfer);
/* Ends it, over or not. 0, or why it failed (a Linux error number); -1: no such transfer. */
int xseg_transfer_end(struct xseg *xseg, struct xseg_transfer *transfer);

#ifdef __cplusplus
}
#endif
#endif
