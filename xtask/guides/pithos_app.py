"""Stands in for Pithos' web application, over the store of python/tests/pithos_store.py.

    GET /NAME/SIZE   an object's bytes        PUT /NAME   stores one
    GET /ready       "ready"                  GET /pid    the worker's process id and its ports

The configuration, the pool of contexts on static ports and the way to wait are those of Pithos
(spec/pithos.md section 2).
"""

import configparser
import os
import select
import threading
from ctypes import POINTER, cast

from archipelago import common
from archipelago.common import Segment, posixfd_signal_desc
from gevent.queue import Queue
from pithos.workers import gevent_archipelago
from pithos_store import Pool, Store, static_ports

CONF = "/etc/archipelago/archipelago.conf"
POOL_SIZE = 8

store = None
lock = threading.Lock()


def wait_green(ctx, sd, timeout):
    """gevent's select: the worker has put it in the place of select's."""
    fd = cast(sd, POINTER(posixfd_signal_desc)).contents.fd
    select.select([fd], [], [], timeout / 1000000.0)
    while True:
        try:
            os.read(fd, 512)
        except BlockingIOError:
            break


def the_store():
    """Made by each worker for itself, at its first request."""
    global store
    with lock:
        if store is None:
            common.xseg_wait_signal_green = wait_green
            conf = configparser.ConfigParser()
            conf.read(CONF)
            xseg = conf["XSEG"]
            segment = Segment(
                xseg.get("SEGMENT_TYPE", "posix"),
                xseg.get("SEGMENT_NAME", "archipelago"),
                xseg.getint("SEGMENT_DYNPORTS"),
                xseg.getint("SEGMENT_PORTS"),
                xseg.getint("SEGMENT_SIZE"),
            )
            ports = static_ports(gevent_archipelago.worker_id, POOL_SIZE)
            store = Store(
                Pool(segment, ports, Queue()),
                conf.getint("mapperd", "blockerb_port"),
                conf.getint("vlmcd", "mapper_port"),
            )
    return store


def answer(environ):
    words = environ["PATH_INFO"].strip("/").split("/")
    if words == ["ready"]:
        return b"ready"
    if words == ["pid"]:
        ports = [ctx.portno for ctx in the_store().pool.contexts]
        return f"{os.getpid()} {' '.join(map(str, ports))}".encode()
    if environ["REQUEST_METHOD"] == "PUT":
        length = int(environ["CONTENT_LENGTH"])
        the_store().store(words[0], environ["wsgi.input"].read(length))
        return b"stored"
    return the_store().read(words[0], int(words[1]))


def application(environ, start_response):
    try:
        body, status = answer(environ), "200 OK"
    except Exception as why:
        body, status = repr(why).encode(), "500 Internal Server Error"
    start_response(status, [("Content-Length", str(len(body)))])
    return [body]
