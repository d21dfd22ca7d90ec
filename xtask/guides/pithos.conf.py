"""Stands in for Synnefo's configuration of gunicorn: files of a worker are its group's as well."""

import os


def post_fork(server, worker):
    os.umask(0o007)
