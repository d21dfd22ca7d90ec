# Objects, and the bytes that they hold, of each pool that is named.
import rados, sys
with rados.Rados(conffile=sys.argv[1]) as cluster:
    for pool in sys.argv[2:]:
        io = cluster.open_ioctx(pool)
        sizes = [io.stat(found.key)[0] for found in io.list_objects()]
        print("  %-8s %8.1f MiB in %d objects, three times" % (pool, sum(sizes) / 2**20, len(sizes)))
