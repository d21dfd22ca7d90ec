"""Stands in for Synnefo's worker class: a gevent worker that knows its number, which is its age."""

from gunicorn.workers.ggevent import GeventWorker

worker_id = None


class GeventArchipelagoWorker(GeventWorker):
    def __init__(self, *args, **kwargs):
        global worker_id
        worker_id = args[0]
        super().__init__(*args, **kwargs)
