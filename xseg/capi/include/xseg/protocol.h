/*
 * What requests say: operations, flags, and the structures that travel as their data.
 * Numbers and layouts are those of Archipelago 0.4; what is ours says so.
 *
 * Names in structures are not NUL-terminated: the length beside them counts.
 */
#ifndef XSEG_PROTOCOL_H
#define XSEG_PROTOCOL_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Bytes of the longest target or name. */
#define XSEG_MAX_TARGETLEN 256

/* Operations (op). */
#define X_PING      0
#define X_READ      1
#define X_WRITE     2
#define X_SYNC      3
#define X_TRUNCATE  4
#define X_DELETE    5
#define X_ACQUIRE   6
#define X_RELEASE   7
#define X_COPY      8
#define X_CLONE     9
#define X_COMMIT   10
#define X_INFO     11
#define X_MAPR     12
#define X_MAPW     13
#define X_OPEN     14
#define X_CLOSE    15
#define X_SNAPSHOT 16
#define X_HASH     17
#define X_CREATE   18
#define X_RENAME   19
#define X_FLUSH    20
#define X_UPDATE   21
/* Ours. */
#define X_DISCARD  64
#define X_ZEROES   65
#define X_LIST     66
#define X_STATUS   67
#define X_LOCKINFO 68

/* Flags of a request (flags). */
#define XF_NOSYNC   (1 << 0)  /* ACQUIRE, MAPW: do not wait */
#define XF_FLUSH    (1 << 1)
#define XF_FUA      (1 << 2)  /* durable when answered */
#define XF_FORCE    (1 << 3)  /* break whoever is in the way */
#define XF_ASSUMEV0 (1 << 4)  /* a map without a header is of the oldest format */
#define XF_SHRINK   (1 << 11) /* ours. TRUNCATE: may lose the end */
#define XF_PEEK     (1 << 13) /* ours. MAPR: neither lock nor upgrade */

/* State of a request (state). */
#define XS_SERVED 1
#define XS_FAILED 2

/* Flags of maps and of what is in them. */
#define XF_MAPFLAG_READONLY 1
#define XF_MAPFLAG_ZERO     2

/* INFO */
struct xseg_reply_info {
	uint64_t size;
};

/* MAPR, MAPW */
struct xseg_reply_map_scatterlist {
	char target[XSEG_MAX_TARGETLEN];
	uint32_t flags;
	uint32_t targetlen;
	uint64_t offset;
	uint64_t size;
};

struct xseg_reply_map {
	uint32_t cnt;
	uint32_t padding;
	struct xseg_reply_map_scatterlist segs[];
};

/* CREATE */
struct xseg_create_map_scatterlist {
	char target[XSEG_MAX_TARGETLEN];
	uint32_t targetlen;
	uint32_t flags;
};

struct xseg_request_create {
	uint32_t cnt;
	uint32_t blocksize;
	uint32_t create_flags;
	struct xseg_create_map_scatterlist segs[];
};

/* CLONE: the request's target is the new volume, this its parent (targetlen 0: none). */
struct xseg_request_clone {
	char target[XSEG_MAX_TARGETLEN];
	uint32_t targetlen;
	uint32_t padding;
	uint64_t size;
};

/* COPY: the request's target is the copy, this its source. */
struct xseg_request_copy {
	char target[XSEG_MAX_TARGETLEN];
	uint32_t targetlen;
};

/* SNAPSHOT: the request's target is the volume, this the snapshot. */
struct xseg_request_snapshot {
	char target[XSEG_MAX_TARGETLEN];
	uint32_t targetlen;
};

/* RENAME: the request's target is the old name, this the new one. */
struct xseg_request_rename {
	char target[XSEG_MAX_TARGETLEN];
	uint32_t targetlen;
};

/* HASH */
struct xseg_reply_hash {
	char target[XSEG_MAX_TARGETLEN];
	uint32_t targetlen;
};

#ifdef __cplusplus
}
#endif
#endif
